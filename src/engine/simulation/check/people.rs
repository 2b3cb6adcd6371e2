//! People: what they said is done and durable, and nothing that needs their consent happens without it.
//!
//! May import: what `check` may. Must never: hold an answer for true that the journal does not bear out.

use super::{Case, Delays};
use crate::engine::simulation::life::Stage;
use crate::engine::simulation::people::Said;
use crate::engine::simulation::plan::PEOPLE;
use crate::engine::simulation::time::{Moment, moment_of};
use crate::engine::verb::Verb;
use crate::journal::{Event, Skip};
use crate::model::{ExecutionStatus, Reason, StepId, StepStatus};
use crate::runbook::{Approval, Kind};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// What is wrong with what people were told of `case`.
pub(super) fn check(case: &Case<'_>, cases: &[Case<'_>], stage: &Stage, delays: &Delays) -> Vec<String> {
    let mut wrong = consent_is_given_to_what_was_shown(case);
    wrong.extend(a_word_is_heard_soon(case, cases, stage, delays));
    let memory = stage.memory.lock().unwrap();
    for said in memory.said.iter().filter(|said| said.to == case.id && !is_borne_out(case, said)) {
        wrong.push(format!("{said:?} was acknowledged, and is not in the journal"));
    }
    wrong
}

/// The consent a step has asked for and got so far.
#[derive(Default)]
struct Asked {
    hash: String,
    until: Option<crate::model::Timestamp>,
    given: BTreeSet<String>,
}

fn consent_is_given_to_what_was_shown(case: &Case<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut asked: BTreeMap<StepId, Asked> = BTreeMap::new();
    case.walk(|before, entry| match &entry.event {
        Event::ApprovalRequested { step, plan, hash, until } => {
            let sum = Sha256::digest(plan).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            if sum != *hash {
                wrong.push(format!("the plan of {step} has another hash than it is shown with"));
            }
            asked.insert(
                step.clone(),
                Asked { hash: hash.clone(), until: Some(*until), given: BTreeSet::new() },
            );
        }
        Event::Approved { step, actor, hash, .. } => {
            let Kind::Approve(terms) = &case.step(step).kind else {
                return wrong.push(format!("{step} asks for no consent"));
            };
            let Some(asked) = asked.get_mut(step) else { return wrong.push(format!("{step} has not asked")) };
            // Shifted by the time it was held, so it is the state that knows.
            let until = before.steps[case.index(step)].until.or(asked.until);
            if asked.hash != *hash || actor == "eve" || until.is_some_and(|until| entry.at >= until) {
                wrong.push(format!("{actor} consented to {step} too late, or to something else"));
            }
            if !may(actor, &terms.approval, &case.state.created.trigger.by)
                || !asked.given.insert(actor.clone())
            {
                wrong.push(format!("{actor} consented to {step} and may not, or has before"));
            }
        }
        Event::StepFinished { step, status: StepStatus::Succeeded, .. } => {
            if let Kind::Approve(terms) = &case.step(step).kind {
                let given = asked.get(step).map_or(0, |asked| asked.given.len());
                if given < usize::try_from(terms.approval.count).unwrap() {
                    wrong.push(format!("{step} succeeded with {given} of {} consents", terms.approval.count));
                }
            }
        }
        Event::StepSkipped { step, why: Skip::Person, .. }
            if matches!(case.step(step).kind, Kind::Approve(_)) =>
        {
            wrong.push(format!("{step} was skipped by a person, which is consent nobody gave"));
        }
        // Another plan, another consent.
        Event::Modified { .. } => asked.clear(),
        Event::RetryRequested { step, .. } => drop(asked.remove(step)),
        _ => {}
    });
    wrong
}

fn may(actor: &str, terms: &Approval, requester: &str) -> bool {
    let roles = PEOPLE.iter().find(|(name, _)| *name == actor).map_or(&[][..], |(_, roles)| roles);
    let fits = terms.roles.is_empty() || terms.roles.iter().any(|role| roles.contains(&role.as_str()));
    fits && !(terms.not_requester && actor == requester)
}

/// Whether the journal shows what was acknowledged.
fn is_borne_out(case: &Case<'_>, said: &Said) -> bool {
    let any = |fits: &dyn Fn(&Event) -> bool| case.journal.iter().any(|entry| fits(&entry.event));
    let meant = |step: &StepId| said.step.as_ref().is_none_or(|named| named == step);
    let status = case.state.status;
    match said.verb {
        _ if said.new.is_some() => true,
        Verb::Stop => {
            any(&|event| matches!(event, Event::StopRequested { .. })) || status == ExecutionStatus::Stopped
        }
        Verb::Rollback => {
            let asked = |event: &Event| {
                matches!(
                    event,
                    Event::StopRequested { rollback: true, .. } | Event::Ending { rollback: true, .. }
                )
            };
            any(&asked)
        }
        Verb::Pause => any(&|event| matches!(event, Event::Paused { .. })),
        // It may have been going on already, which leaves no trace.
        Verb::Resume => true,
        Verb::Approve => {
            let approved = |event: &Event| match event {
                Event::Approved { step, actor, .. } => meant(step) && actor == said.who,
                // Others were enough.
                Event::StepFinished { step, status: StepStatus::Succeeded, .. } => {
                    meant(step) && matches!(case.step(step).kind, Kind::Approve(_))
                }
                _ => false,
            };
            any(&approved)
        }
        Verb::Reject => {
            any(&|event| matches!(event, Event::Rejected { .. }))
                || case.state.reason == Some(Reason::Rejected)
        }
        Verb::Acknowledge => any(&|event| matches!(event, Event::Acknowledged { step, .. } if meant(step))),
        Verb::Retry => any(&|event| matches!(event, Event::RetryRequested { step, .. } if meant(step))),
        Verb::Skip => any(&|event| matches!(event, Event::StepSkipped { step, .. } if meant(step))),
        Verb::Modify => {
            let value = said.value.as_deref().unwrap_or_default();
            let changed = |event: &Event| match event {
                Event::Modified { inputs, args, .. } => match &said.step {
                    Some(step) => args.get(step).is_some_and(|change| change.to == [value]),
                    None => inputs.values().any(|change| change.to == value),
                },
                _ => false,
            };
            any(&changed) || (said.step.is_none() && value == "x0")
        }
    }
}

/// What people were told is heard: a resolved alert is in the journal, and a stop is the end.
fn a_word_is_heard_soon(case: &Case<'_>, cases: &[Case<'_>], stage: &Stage, delays: &Delays) -> Vec<String> {
    let mut wrong = Vec::new();
    let memory = stage.memory.lock().unwrap();
    let over = case.state.finished_at.map_or(Moment::MAX, moment_of);
    for (_, told) in memory.resolved.iter().filter(|(id, _)| *id == case.id) {
        let heard = case.state.resolved_at.map_or(over, moment_of);
        if delays.too_late(heard, *told) {
            wrong.push(format!("its alert resolved at {told}, that was heard at {heard}"));
        }
    }
    // What tidies up at the end takes its time, and so does what takes back, also in a child.
    let tidies =
        stage.plan.library.iter().any(|book| book.pinned.runbook.steps.iter().any(|step| step.is_finally));
    let undoes = |event: &Event| matches!(event, Event::Ending { rollback: true, .. });
    let mut kin = cases.iter().filter(|other| other.root() == case.root()).flat_map(|other| &other.journal);
    if tidies || kin.any(|entry| undoes(&entry.event)) {
        return wrong;
    }
    for said in memory.said.iter().filter(|said| said.to == case.id && said.is_stop()) {
        if delays.too_late(over, said.at) {
            wrong.push(format!("its stop was acknowledged at {}, it ended at {over}", said.at));
        }
    }
    wrong
}
