//! Parents and children, and what takes back: who ends with whom, and in which order things are undone.
//!
//! May import: what `check` may. Must never: call a rollback done that left something out.

use super::attempts::children;
use super::{Case, Delays};
use crate::engine::simulation::facts::{intent, may_follow_a_stop};
use crate::engine::simulation::time::moment_of;
use crate::journal::{Event, State, TriggerKind};
use crate::model::{AttemptOutcome, ExecutionStatus, Part, Role, StepStatus};
use crate::runbook::{OnFailure, OnResolved};
use std::collections::BTreeMap;

/// What is wrong between `case` and its kin.
pub(super) fn check(case: &Case<'_>, cases: &[Case<'_>], delays: &Delays) -> Vec<String> {
    let mut wrong = a_child_belongs_to_one_attempt(case, cases);
    wrong.extend(a_child_ends_with_its_parent(case, cases, delays));
    wrong.extend(a_rollback_goes_backwards(case));
    wrong.extend(a_rollback_is_decided_and_complete(case));
    wrong.extend(nothing_is_taken_back_twice(case, cases));
    wrong
}

fn a_child_belongs_to_one_attempt(case: &Case<'_>, cases: &[Case<'_>]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (id, act) in children(case) {
        let Some(child) = cases.iter().find(|other| other.id == id) else {
            wrong.push(format!("{act} started {id}, which is nowhere"));
            continue;
        };
        let parent = child.state.created.parent.as_ref();
        let fits = parent.is_some_and(|parent| {
            parent.id == case.id
                && (parent.index, parent.part, parent.attempt)
                    == (case.index(&act.step), act.part, act.attempt)
        });
        let root = cases.iter().find(|other| other.id == *child.root());
        let shared = root.and_then(|root| root.state.created.lock.as_ref());
        let own = child.state.created.lock.as_ref();
        let changes = child.state.created.steps.iter().any(|step| step.effect.is_changing());
        let on = child.state.created.target.as_ref().map(|target| target.as_str());
        // What its root holds anyway it needs not hold; what it changes besides, it must.
        let held = own.is_some() != (shared.map(String::as_str) == on) || !changes;
        if !fits || own.is_some_and(|own| Some(own.as_str()) != on) || !held {
            wrong.push(format!("{id} is not the child of {act}, or holds {own:?} for {on:?}"));
        }
        let ended = case.journal.iter().find_map(|entry| match &entry.event {
            Event::AttemptFinished { result, .. } if result.child.as_ref() == Some(&id) => {
                Some((entry.at, result.outcome))
            }
            _ => None,
        });
        let succeeded = child.state.status == ExecutionStatus::Succeeded;
        match ended {
            Some((at, _)) if child.state.finished_at.is_none_or(|over| at < over) => {
                wrong.push(format!("{act} ended at {at}, before {id}"));
            }
            Some((_, outcome)) if (outcome == AttemptOutcome::Succeeded) != succeeded => {
                wrong.push(format!("{act} ended as {} and {id} as {}", outcome.as_str(), child.state.status));
            }
            Some(_) => {}
            None => wrong.push(format!("{act} never heard of the end of {id}")),
        }
    }
    if let Some(parent) = &case.state.created.parent {
        let known = cases.iter().find(|other| other.id == parent.id).map(children);
        if !known.is_some_and(|known| known.iter().any(|(id, _)| *id == case.id)) {
            wrong.push(format!("no attempt of {} started it", parent.id));
        }
    }
    wrong
}

/// What ends a parent at once ends those below, also when the daemon went away in between; but for what tidies up at
/// its end.
fn a_child_ends_with_its_parent(case: &Case<'_>, cases: &[Case<'_>], delays: &Delays) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut above = case.state.created.parent.as_ref();
    while let Some(parent) = above {
        let Some(kin) = cases.iter().find(|other| other.id == parent.id) else { break };
        if kin.runbook.steps[parent.index].is_finally {
            break;
        }
        let ends = matches!(kin.runbook.on_resolved, OnResolved::Stop | OnResolved::Rollback);
        kin.walk(|before, entry| {
            let is_end = match &entry.event {
                Event::StopRequested { .. } | Event::DeadlinePassed => true,
                Event::AlertResolved => ends && before.ending.is_none(),
                _ => false,
            };
            let since = moment_of(entry.at);
            let late = case.runs.iter().filter(|run| {
                is_end
                    && delays.too_late(run.began, since)
                    && !may_follow_a_stop(case.step(&run.act.step), &run.act)
            });
            wrong.extend(late.map(|run| {
                let what = entry.event.kind();
                format!("{} began at {}, {} has {what} at {since}", run.act, run.began, parent.id)
            }));
        });
        above = kin.state.created.parent.as_ref();
    }
    wrong
}

/// What has begun and has an undo, in the order in which it began.
fn undoable(case: &Case<'_>, state: &State) -> Vec<(usize, Part)> {
    let mut begun: Vec<(u64, usize, Part)> = Vec::new();
    for step in &case.state.created.inherited {
        begun.extend(step.begun.iter().map(|(seq, part)| (*seq, case.index(&step.step), *part)));
    }
    begun.sort_unstable();
    let mut parts: Vec<(usize, Part)> = begun.into_iter().map(|(_, index, part)| (index, part)).collect();
    for entry in case.journal.iter().take_while(|entry| entry.seq <= state.seq) {
        if let Some(act) = intent(&entry.event).filter(|act| act.part.role == Role::Main) {
            let part = (case.index(&act.step), act.part);
            if !parts.contains(&part) {
                parts.push(part);
            }
        }
    }
    parts.retain(|(index, _)| {
        let step = &case.runbook.steps[*index];
        step.undo.is_some() && !step.is_finally
    });
    parts
}

/// The undos begin in the reverse order of what they undo, each when the one before it has succeeded.
fn a_rollback_goes_backwards(case: &Case<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut undone: Vec<(usize, Part)> = Vec::new();
    case.walk(|before, entry| {
        let Some(act) = intent(&entry.event).filter(|act| act.part.role == Role::Undo) else { return };
        let part = (case.index(&act.step), act.part.with(Role::Main));
        if !undone.contains(&part) {
            undone.push(part);
        }
        let mut wanted = undoable(case, before);
        wanted.reverse();
        if !wanted.starts_with(&undone) {
            wrong.push(format!("{act}: undone are {undone:?}, it should be {wanted:?}"));
        }
        let unfinished = undone.iter().filter(|earlier| **earlier != part).any(|(index, part)| {
            let ended = before.steps[*index].ended.get(&part.with(Role::Undo));
            !matches!(ended, Some((StepStatus::Succeeded, _)))
        });
        if unfinished || before.steps.iter().any(|step| step.is_busy()) {
            wrong.push(format!("{act} began before what comes before it was over"));
        }
    });
    wrong
}

fn a_rollback_is_decided_and_complete(case: &Case<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut decided = false;
    case.walk(|before, entry| {
        let rollback = match &entry.event {
            Event::Ending { rollback, .. } => *rollback,
            Event::Finished { .. } if before.ending.is_none() => false,
            _ => return,
        };
        decided |= rollback;
        let irreversible =
            |index: usize| case.runbook.steps[index].irreversible && !before.steps[index].begun.is_empty();
        let can = !undoable(case, before).is_empty() && !(0..before.steps.len()).any(irreversible);
        if can != rollback && wants_rollback(case, before, &entry.event) == Some(can) {
            wrong.push(format!("the rollback was decided wrongly: {:?}", entry.event));
        }
        if rollback && !can {
            wrong.push("a rollback was decided, and nothing can be undone".to_owned());
        }
    });
    let undone = |(index, part): &(usize, Part)| {
        case.state.steps[*index].ended.get(&part.with(Role::Undo)).map(|(status, _)| *status)
    };
    let parts = undoable(case, &case.state);
    let all = parts.iter().all(|part| undone(part) == Some(StepStatus::Succeeded));
    let failed = parts.iter().filter_map(undone).any(|status| status != StepStatus::Succeeded);
    let fits = match case.state.status {
        ExecutionStatus::RolledBack => decided && all,
        ExecutionStatus::RollbackFailed => decided && failed,
        _ => !decided,
    };
    if !fits {
        wrong.push(format!("is {}, decided {decided}, all undone {all}, failed {failed}", case.state.status));
    }
    wrong
}

/// Whether the end that is being decided asks for a rollback; nothing where other reasons than these decide.
fn wants_rollback(case: &Case<'_>, before: &State, event: &Event) -> Option<bool> {
    let (Event::Ending { status, .. } | Event::Finished { status, .. }) = event else { return None };
    // Where nothing has begun nothing is decided.
    before.started_at?;
    if let Some(stop) = &before.stop {
        return Some(stop.rollback);
    }
    match status {
        ExecutionStatus::NotVerified => Some(true),
        ExecutionStatus::Failed if before.deadline_passed => Some(true),
        ExecutionStatus::Failed | ExecutionStatus::Rejected | ExecutionStatus::Expired
            if before.resolved_at.is_none() =>
        {
            let failed = case.runbook.steps.iter().zip(&before.steps).find(|(step, seen)| {
                seen.has_failed() && !step.is_finally && step.on_failure != OnFailure::Continue
            });
            failed.map(|(step, _)| step.on_failure == OnFailure::Rollback)
        }
        ExecutionStatus::Succeeded => Some(false),
        _ => None,
    }
}

/// Across an execution and all that were begun to take it back.
fn nothing_is_taken_back_twice(case: &Case<'_>, cases: &[Case<'_>]) -> Vec<String> {
    let is_rollback = |other: &Case<'_>| other.state.created.trigger.kind == TriggerKind::Rollback;
    if is_rollback(case) {
        return Vec::new();
    }
    let of_it = |other: &&Case<'_>| {
        other.id == case.id
            || (is_rollback(other) && other.state.created.trigger.of.as_ref() == Some(&case.id))
    };
    let mut undone: BTreeMap<(String, Part), usize> = BTreeMap::new();
    for entry in cases.iter().filter(of_it).flat_map(|other| &other.journal) {
        if let Event::PartFinished { step, part, status: StepStatus::Succeeded, .. } = &entry.event
            && part.role == Role::Undo
        {
            *undone.entry((step.to_string(), *part)).or_default() += 1;
        }
    }
    let twice = undone.into_iter().filter(|(_, times)| *times > 1);
    twice.map(|((step, part), times)| format!("{step} {part} was undone {times} times")).collect()
}
