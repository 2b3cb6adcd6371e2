//! Attempts: what may begin when, under which number and key, and how often.
//!
//! May import: what `check` may. Must never: take the machine's word for what it may do.

use super::Case;
use crate::engine::simulation::facts::{Act, child_of, effect_of, end, intent, may_follow_a_stop, policy_of};
use crate::engine::simulation::life::Stage;
use crate::journal::{Entry, Event, State};
use crate::model::{AttemptOutcome, Effect, Part, Role, StepId, StepStatus};
use crate::runbook::OnResolved;
use std::collections::{BTreeMap, BTreeSet};

/// What is wrong with the attempts of `case`.
pub(super) fn check(case: &Case<'_>, stage: &Stage) -> Vec<String> {
    let mut wrong = every_effect_has_its_intent(case);
    wrong.extend(nothing_begins_that_must_not(case));
    wrong.extend(nothing_begins_after_an_answer(case, stage));
    wrong.extend(what_a_step_waits_for_is_over(case));
    wrong.extend(at_most_once_is_at_most_once(case));
    wrong.extend(a_part_keeps_its_key(case));
    wrong.extend(attempts_count_up_and_end(case));
    wrong
}

/// I1, and that nothing begins once it is over.
fn every_effect_has_its_intent(case: &Case<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    for run in &case.runs {
        let durable = || case.journal.iter().take_while(|entry| entry.seq <= run.durable);
        let mut open = false;
        for entry in durable() {
            open |= intent(&entry.event).as_ref() == Some(&run.act);
            open &= end(&entry.event).is_none_or(|(act, _)| act != run.act);
        }
        if !open && effect_of(case.step(&run.act.step), &run.act).is_changing() {
            wrong.push(format!("{} began at {} without a durable intent", run.act, run.began));
        }
        if durable().any(|entry| matches!(entry.event, Event::Finished { .. })) {
            wrong.push(format!("{} began at {} after the end", run.act, run.began));
        }
    }
    wrong
}

/// The word that stands at the end of what was durable when an attempt began.
#[derive(Debug, Default, Clone, Copy)]
struct Words {
    stopped: bool,
    ending: bool,
    rollback: bool,
    cut_short: bool,
    held: bool,
}

impl Words {
    fn hear(&mut self, case: &Case<'_>, event: &Event) {
        let ends = matches!(case.runbook.on_resolved, OnResolved::Stop | OnResolved::Rollback);
        match event {
            Event::StopRequested { .. } => {
                self.cut_short |= self.ending;
                self.stopped = true;
            }
            Event::DeadlinePassed => self.stopped = true,
            // A proof in progress goes on: it only looks.
            Event::AlertResolved if ends && !self.ending => self.stopped = true,
            Event::Paused { .. } => self.held = true,
            Event::Resumed { .. } => self.held = false,
            Event::Ending { rollback, .. } => {
                (self.ending, self.rollback, self.held) = (true, *rollback, false);
            }
            _ => {}
        }
    }

    fn forbid(self, case: &Case<'_>, act: &Act) -> Option<&'static str> {
        let step = case.step(&act.step);
        if self.held {
            return Some("while it is held");
        }
        if (self.stopped || self.ending) && !may_follow_a_stop(step, act) {
            return Some("after it was to end");
        }
        if act.part.role == Role::Undo && !self.rollback {
            return Some("although nothing is to be undone");
        }
        (step.is_finally && (self.cut_short || !self.ending))
            .then_some("although the end is not reached, or cut short")
    }
}

fn nothing_begins_that_must_not(case: &Case<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut words = Words::default();
    for entry in &case.journal {
        if let Some(act) = intent(&entry.event)
            && let Some(why) = words.forbid(case, &act)
        {
            wrong.push(format!("{act} was intended {why}"));
        }
        words.hear(case, &entry.event);
    }
    // And in the world, by what was durable when it began. That another step failed in the very commit of the intent,
    // and ended or held it, is no reason not to begin: the two go side by side.
    for run in &case.runs {
        let durable = || case.journal.iter().take_while(|entry| entry.seq <= run.durable);
        let intents = durable().filter(|entry| intent(&entry.event).as_ref() == Some(&run.act));
        let intended = intents.last().map_or(0, |entry| entry.seq);
        let mut words = Words::default();
        let by_failure =
            |event: &Event| matches!(event, Event::Ending { .. } | Event::Paused { actor: None, .. });
        let is_beside = |entry: &&Entry| entry.seq > intended && by_failure(&entry.event);
        durable().filter(|entry| !is_beside(entry)).for_each(|entry| words.hear(case, &entry.event));
        wrong.extend(
            words.forbid(case, &run.act).map(|why| format!("{} began at {} {why}", run.act, run.began)),
        );
    }
    wrong
}

fn nothing_begins_after_an_answer(case: &Case<'_>, stage: &Stage) -> Vec<String> {
    let mut wrong = Vec::new();
    let memory = stage.memory.lock().unwrap();
    for said in memory.said.iter().filter(|said| said.to == case.id && said.is_stop()) {
        let late = case.runs.iter().filter(|run| run.began > said.at);
        wrong.extend(late.filter(|run| !may_follow_a_stop(case.step(&run.act.step), &run.act)).map(|run| {
            format!(
                "{} began at {}, its {} was acknowledged at {}",
                run.act,
                run.began,
                said.verb.as_str(),
                said.at
            )
        }));
    }
    wrong
}

/// The graph, consent included: also when a consent was taken back by a change after the next step had begun.
fn what_a_step_waits_for_is_over(case: &Case<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    case.walk(|before, entry| {
        let step = match &entry.event {
            Event::StepIntended { step, part, .. } if part.role != Role::Undo => step,
            Event::TimerStarted { step, .. } | Event::ApprovalRequested { step, .. } => step,
            _ => return,
        };
        let index = case.index(step);
        let mut waits_for = BTreeSet::new();
        let mut left = case.runbook.steps[index].after.clone();
        while let Some(next) = left.pop() {
            if waits_for.insert(next) {
                left.extend(&case.runbook.steps[next].after);
            }
        }
        if case.runbook.steps[index].is_finally {
            waits_for
                .extend((0..case.runbook.steps.len()).filter(|other| !case.runbook.steps[*other].is_finally));
        }
        let open =
            waits_for.iter().filter(|other| !before.steps[**other].is_over() || is_open(before, **other));
        wrong.extend(open.map(|other| format!("{step} did not wait for {}", case.runbook.steps[*other].id)));
    });
    wrong
}

fn is_open(state: &State, index: usize) -> bool {
    !state.steps[index].open.is_empty()
}

/// I2.
fn at_most_once_is_at_most_once(case: &Case<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut begun: BTreeMap<&Act, usize> = BTreeMap::new();
    for run in &case.runs {
        *begun.entry(&run.act).or_default() += 1;
    }
    for (act, times) in begun {
        if effect_of(case.step(&act.step), act) == Effect::AtMostOnce && times > 1 {
            wrong.push(format!("{act} is at_most_once and began {times} times"));
        }
    }
    let mut unknown: BTreeSet<(StepId, Part)> = BTreeSet::new();
    for entry in &case.journal {
        if let Some((act, AttemptOutcome::Unknown)) = end(&entry.event)
            && effect_of(case.step(&act.step), &act) == Effect::AtMostOnce
        {
            unknown.insert((act.step, act.part));
        }
        if let Event::RetryRequested { step, .. } = &entry.event {
            unknown.retain(|(of, _)| of != step);
        }
        if let Some(act) = intent(&entry.event).filter(|act| unknown.contains(&(act.step.clone(), act.part)))
        {
            wrong.push(format!("{act} was intended after an unknown outcome"));
        }
    }
    wrong
}

/// One key for all attempts of a part, another one once a person asks for another try; and nothing begins twice in
/// one life.
fn a_part_keeps_its_key(case: &Case<'_>) -> Vec<String> {
    type Wish<'w> = (&'w StepId, Part, usize);
    let mut wrong = Vec::new();
    let mut keys: BTreeMap<Wish<'_>, &str> = BTreeMap::new();
    let mut wishes: BTreeMap<&str, Wish<'_>> = BTreeMap::new();
    let mut lives: BTreeSet<(&Act, usize)> = BTreeSet::new();
    for run in &case.runs {
        let durable = case.journal.iter().take_while(|entry| entry.seq <= run.durable);
        let again =
            |event: &Event| matches!(event, Event::RetryRequested { step, .. } if *step == run.act.step);
        let wish = (&run.act.step, run.act.part, durable.filter(|entry| again(&entry.event)).count());
        let (key, of) = (*keys.entry(wish).or_insert(&run.key), *wishes.entry(&run.key).or_insert(wish));
        if key != run.key || of != wish {
            wrong.push(format!("{} began with the key {}, which is not its own", run.act, run.key));
        }
        if !lives.insert((&run.act, run.life)) {
            wrong.push(format!("{} began twice in one life", run.act));
        }
    }
    wrong
}

/// Where a part stands, as its attempts tell.
#[derive(Default)]
struct Tries {
    last: Option<(u32, AttemptOutcome)>,
    /// How many ended in this wish, apart from interrupted ones.
    ended: u32,
    /// It was done, or is not to be tried again.
    settled: bool,
}

fn attempts_count_up_and_end(case: &Case<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut parts: BTreeMap<(StepId, Part), Tries> = BTreeMap::new();
    for entry in &case.journal {
        if let Some(act) = intent(&entry.event) {
            let tries = parts.entry((act.step.clone(), act.part)).or_default();
            let wanted = match tries.last {
                None => 1,
                Some((attempt, AttemptOutcome::Interrupted)) => attempt,
                Some((attempt, _)) => attempt + 1,
            };
            let policy = policy_of(case.step(&act.step), act.part);
            if act.attempt != wanted {
                wrong.push(format!("{act} was intended, its number must be {wanted}"));
            }
            if tries.ended >= policy || tries.settled {
                wrong.push(format!("{act} was intended, after {} of {policy} attempts", tries.ended));
            }
        }
        if let Some((act, outcome)) = end(&entry.event) {
            let tries = parts.entry((act.step, act.part)).or_default();
            tries.last = Some((act.attempt, outcome));
            tries.ended += u32::from(outcome != AttemptOutcome::Interrupted);
            let again = matches!(
                outcome,
                AttemptOutcome::Interrupted | AttemptOutcome::Failed | AttemptOutcome::TimedOut
            );
            // What was looked for before another attempt says nothing of this one.
            tries.settled |= !again && act.part.role != Role::Probe;
        }
        match &entry.event {
            Event::RetryRequested { step, .. } => {
                for ((of, part), tries) in &mut parts {
                    // Items that are done stay done.
                    let is_done =
                        part.item.is_some() && matches!(tries.last, Some((_, AttemptOutcome::Succeeded)));
                    if of == step && !is_done {
                        (tries.ended, tries.settled) = (0, false);
                    }
                }
            }
            Event::PartFinished { step, part, status: StepStatus::Succeeded, .. } => {
                parts.entry((step.clone(), *part)).or_default().settled = true;
            }
            _ => {}
        }
    }
    wrong
}

/// The children that the attempts of `case` started, with what started them.
pub(super) fn children(case: &Case<'_>) -> Vec<(crate::model::ExecutionId, Act)> {
    case.journal.iter().filter_map(|entry| child_of(&entry.event)).collect()
}
