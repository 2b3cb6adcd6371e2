//! What must be true of every run, whatever was done to it. One function per promise.
//!
//! Judges three things only: the ledger (what really happened), the journals (what is durable) and what people were
//! told. A new promise is one more function, called in [`check`]. Must never: ask the engine.

use super::facts::{Act, effect_of, end, intent, is_stop, may_follow_a_stop, step_over};
use super::life::Stage;
use super::time::{Moment, moment_of};
use super::world::Run;
use crate::journal::{Entry, Event, State};
use crate::model::{AttemptOutcome, Effect, ExecutionId, ExecutionStatus, Part, Role, StepStatus, after};
use crate::runbook::{OnFailure, Runbook, Step};
use crate::store::records::Header;
use futures_util::FutureExt as _;
use std::collections::{BTreeMap, BTreeSet};

/// A timer may be late by this where nothing was in its way: one look of the scheduler, and a slow commit or two.
const LATE: Moment = 8_000;

/// One execution as it is in the end.
struct Case<'c> {
    id: ExecutionId,
    runbook: &'c Runbook,
    journal: Vec<Entry>,
    header: Header,
    state: State,
    runs: Vec<&'c Run>,
}

impl Case<'_> {
    fn step(&self, act: &Act) -> &Step {
        self.runbook.steps.iter().find(|step| step.id == act.step).expect("an act of no step")
    }

    fn started(&self) -> Option<Moment> {
        self.state.started_at.map(moment_of)
    }
}

/// What is wrong, sentence by sentence; empty when every promise was kept.
pub(super) fn check(stage: &Stage) -> Vec<String> {
    let mut wrong = stage.memory.lock().unwrap().trouble.clone();
    let ledger = stage.ledger.lock().unwrap().clone();
    let cases = match cases(stage, &ledger) {
        Ok(cases) => cases,
        Err(trouble) => {
            wrong.push(trouble);
            return wrong;
        }
    };
    let delays = Delays(stage.hindrances());
    for case in &cases {
        let mut say = |what: Vec<String>| {
            wrong.extend(what.into_iter().map(|what| format!("{}: {what}", case.id)));
        };
        say(the_journal_is_whole(case));
        say(it_is_over_and_nothing_followed(case));
        say(the_outcome_fits_the_steps(case));
        say(every_effect_has_its_intent(case));
        say(nothing_begins_after_a_stop(case, stage));
        say(what_a_step_waits_for_is_over(case));
        say(at_most_once_is_at_most_once(case));
        say(a_run_again_keeps_number_and_key(case));
        say(a_rollback_goes_backwards(case));
        say(no_timer_is_early(case));
        say(no_timer_is_late(case, &delays));
        say(a_word_is_heard_soon(case, stage, &delays));
    }
    wrong.extend(nothing_accepted_is_lost(stage, &cases));
    wrong.extend(one_lock_has_one_holder(&cases));
    wrong.extend(no_more_run_than_may(stage, &ledger));
    wrong
}

fn cases<'c>(stage: &'c Stage, ledger: &'c [Run]) -> Result<Vec<Case<'c>>, String> {
    let records = stage.records();
    let mut cases = Vec::new();
    for number in 0..stage.plan.executions() {
        let stored = records.store().get(format!("z/{number}").as_bytes()).now_or_never().unwrap().unwrap();
        let Some(stored) = stored else { continue };
        let id: ExecutionId = serde_json::from_slice(&stored).map_err(|error| error.to_string())?;
        cases.push(case(stage, ledger, id)?);
    }
    Ok(cases)
}

fn case<'c>(stage: &'c Stage, ledger: &'c [Run], id: ExecutionId) -> Result<Case<'c>, String> {
    let records = stage.records();
    let header = records.header(id.ulid()).now_or_never().unwrap().map_err(|error| error.to_string())?;
    let header = header.ok_or_else(|| format!("{id} has no header"))?;
    let journal = records.journal(&id, 0, usize::MAX).now_or_never().unwrap();
    let journal = journal.map_err(|error| error.to_string())?;
    let state = State::replay(journal.clone()).map_err(|error| format!("{id}: {error}"))?;
    let of = |runbook: &&Runbook| runbook.id.as_str() == id.runbook();
    let runbook = stage.plan.library.iter().map(|book| &book.pinned.runbook).find(of);
    let runbook = runbook.ok_or_else(|| format!("{id} is of no runbook"))?;
    let runs = ledger.iter().filter(|run| run.execution == id).collect();
    Ok(Case { id, runbook, journal, header, state, runs })
}

fn the_journal_is_whole(case: &Case<'_>) -> Vec<String> {
    let Case { header, state, journal, .. } = case;
    let told = (header.status, header.reason, header.started_at, header.finished_at, header.seq);
    let replayed = (state.status, state.reason, state.started_at, state.finished_at, state.seq);
    let mut wrong = Vec::new();
    if told != replayed {
        wrong.push(format!("the header says {told:?}, the journal {replayed:?}"));
    }
    if !journal.is_sorted_by_key(|entry| entry.at) {
        wrong.push("the journal goes back in time".to_owned());
    }
    wrong
}

fn it_is_over_and_nothing_followed(case: &Case<'_>) -> Vec<String> {
    let ends = case.journal.iter().filter(|entry| matches!(entry.event, Event::Finished { .. })).count();
    let last = case.journal.last().is_some_and(|entry| matches!(entry.event, Event::Finished { .. }));
    let mut wrong = Vec::new();
    if !case.state.status.is_final() || ends != 1 || !last {
        wrong.push(format!("is {} with {ends} ends", case.state.status));
    }
    if case.state.started_at.is_some() && case.state.steps.iter().any(|step| !step.is_over()) {
        wrong.push("is over, but not all of its steps are".to_owned());
    }
    if case.state.has_open_attempt() {
        wrong.push("is over with an attempt in progress".to_owned());
    }
    wrong
}

fn the_outcome_fits_the_steps(case: &Case<'_>) -> Vec<String> {
    let failed = case.state.steps.iter().zip(&case.runbook.steps).find(|(seen, step)| {
        let fine = matches!(seen.status, StepStatus::Succeeded | StepStatus::Skipped);
        !fine && step.on_failure != OnFailure::Continue
    });
    match (case.state.status, failed) {
        (ExecutionStatus::Succeeded, Some((seen, step))) => {
            vec![format!("succeeded, but {} is {}", step.id, seen.status.as_str())]
        }
        (ExecutionStatus::Succeeded, None) if case.runbook.verify.is_some() => {
            let proof = case.state.verify.as_ref();
            let proved = proof.is_some_and(|proof| proof.holds_since.is_some());
            if proved { Vec::new() } else { vec!["succeeded without its proof".to_owned()] }
        }
        _ => Vec::new(),
    }
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
        if !open && effect_of(case.step(&run.act), &run.act).is_changing() {
            wrong.push(format!("{} began at {} without a durable intent", run.act, run.began));
        }
        if durable().any(|entry| matches!(entry.event, Event::Finished { .. })) {
            wrong.push(format!("{} began at {} after the end", run.act, run.began));
        }
    }
    wrong
}

fn nothing_begins_after_a_stop(case: &Case<'_>, stage: &Stage) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut stopped = false;
    for entry in &case.journal {
        stopped |= is_stop(&entry.event);
        let begins = intent(&entry.event).filter(|act| !may_follow_a_stop(case.step(act), act));
        if let Some(act) = begins.filter(|_| stopped) {
            wrong.push(format!("{act} was intended after a stop"));
        }
    }
    let memory = stage.memory.lock().unwrap();
    for (_, acknowledged) in memory.stopped.iter().filter(|(id, _)| *id == case.id) {
        let late = case.runs.iter().filter(|run| run.began > *acknowledged);
        wrong.extend(late.filter(|run| !may_follow_a_stop(case.step(&run.act), &run.act)).map(|run| {
            format!("{} began at {}, its stop was acknowledged at {acknowledged}", run.act, run.began)
        }));
    }
    wrong
}

fn what_a_step_waits_for_is_over(case: &Case<'_>) -> Vec<String> {
    let mut over = BTreeSet::new();
    let mut wrong = Vec::new();
    for entry in &case.journal {
        if let Some(act) = intent(&entry.event).filter(|act| act.part.role == Role::Main) {
            let step = case.step(&act);
            let missing = step.after.iter().map(|index| &case.runbook.steps[*index].id);
            wrong.extend(
                missing.filter(|id| !over.contains(*id)).map(|id| format!("{act} did not wait for {id}")),
            );
        }
        over.extend(step_over(&entry.event));
    }
    wrong
}

/// I2.
fn at_most_once_is_at_most_once(case: &Case<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut begun: BTreeMap<&Act, usize> = BTreeMap::new();
    for run in &case.runs {
        *begun.entry(&run.act).or_default() += 1;
    }
    for (act, times) in begun {
        if effect_of(case.step(act), act) == Effect::AtMostOnce && times > 1 {
            wrong.push(format!("{act} is at_most_once and began {times} times"));
        }
    }
    let mut unknown: BTreeSet<(&str, Part)> = BTreeSet::new();
    for entry in &case.journal {
        if let Some((act, AttemptOutcome::Unknown)) = end(&entry.event) {
            let step = case.step(&act);
            // A probe may clear it up: then its answer stands between the two.
            if effect_of(step, &act) == Effect::AtMostOnce && step.probe.is_none() {
                unknown.insert((step.id.as_str(), act.part));
            }
        }
        if let Some(act) = intent(&entry.event).filter(|act| unknown.contains(&(act.step.as_str(), act.part)))
        {
            wrong.push(format!("{act} was intended after an unknown outcome"));
        }
    }
    wrong
}

fn a_run_again_keeps_number_and_key(case: &Case<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut keys: BTreeMap<&Act, &str> = BTreeMap::new();
    let mut acts: BTreeMap<&str, &Act> = BTreeMap::new();
    let mut lives: BTreeSet<(&Act, usize)> = BTreeSet::new();
    for run in &case.runs {
        let (key, act) =
            (*keys.entry(&run.act).or_insert(&run.key), *acts.entry(&run.key).or_insert(&run.act));
        if key != run.key || *act != run.act {
            wrong.push(format!("{} began with the key {}, before it was {act} with {key}", run.act, run.key));
        }
        if !lives.insert((&run.act, run.life)) {
            wrong.push(format!("{} began twice in one life", run.act));
        }
    }
    let mut last: BTreeMap<(&str, Part), (u32, Option<AttemptOutcome>)> = BTreeMap::new();
    for entry in &case.journal {
        if let Some((act, outcome)) = end(&entry.event) {
            last.insert((case.step(&act).id.as_str(), act.part), (act.attempt, Some(outcome)));
        }
        if let Some(act) = intent(&entry.event) {
            let before = last.get(&(act.step.as_str(), act.part)).copied();
            let wanted = match before {
                None => 1,
                Some((attempt, Some(AttemptOutcome::Interrupted))) => attempt,
                Some((attempt, _)) => attempt + 1,
            };
            if act.attempt != wanted {
                wrong.push(format!("{act} was intended, its number must be {wanted}"));
            }
        }
    }
    wrong
}

/// The undos begin in the reverse order of what they undo.
fn a_rollback_goes_backwards(case: &Case<'_>) -> Vec<String> {
    let first = |role: Role| {
        let mut steps: Vec<&str> = Vec::new();
        for act in case.journal.iter().filter_map(|entry| intent(&entry.event)) {
            let step = case.step(&act).id.as_str();
            if act.part.role == role && !steps.contains(&step) {
                steps.push(step);
            }
        }
        steps
    };
    let (begun, undone) = (first(Role::Main), first(Role::Undo));
    let mut wanted: Vec<&str> = begun.iter().rev().copied().filter(|step| undone.contains(step)).collect();
    // Whoever failed is undone first, and the others in order.
    if let Some(at) = undone.first().and_then(|failed| wanted.iter().position(|step| step == failed)) {
        let failed = wanted.remove(at);
        wanted.insert(0, failed);
    }
    match undone == wanted {
        true => Vec::new(),
        false => vec![format!("begun {begun:?}, undone {undone:?}")],
    }
}

fn no_timer_is_early(case: &Case<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut early = |what: &str, at, due| {
        if at < due {
            wrong.push(format!("{what} at {at}, which was due at {due}"));
        }
    };
    let mut until = BTreeMap::new();
    let (mut deadline, mut proof, mut holds) = (None, None, None);
    for Entry { at, event, .. } in &case.journal {
        match event {
            Event::Started { deadline: due } => deadline = Some(*due),
            Event::TimerStarted { step, until: due } => drop(until.insert(step, *due)),
            Event::StepFinished { step, status: StepStatus::Succeeded, .. } if until.contains_key(step) => {
                early("a wait ended", *at, until[step]);
            }
            Event::DeadlinePassed => early("the timeout passed", *at, deadline.unwrap_or(*at)),
            Event::VerifyStarted { until } => proof = Some(*until),
            Event::VerifyObserved { holds: true, .. } => holds = holds.or(Some(*at)),
            Event::VerifyObserved { holds: false, .. } => holds = None,
            Event::Finished { status: ExecutionStatus::NotVerified, .. } => {
                early("the proof was given up", *at, proof.unwrap_or(*at));
            }
            Event::Finished { status: ExecutionStatus::Succeeded, .. } => {
                if let (Some(verify), Some(since)) = (&case.runbook.verify, holds) {
                    early("it was proved", *at, after(since, verify.hold));
                }
            }
            Event::Finished { status: ExecutionStatus::Expired, .. } if case.state.resolved_at.is_none() => {
                early("it expired", *at, case.state.created.queue_deadline);
            }
            _ => {}
        }
    }
    wrong
}

/// The times in which nothing can be expected.
struct Delays(Vec<(Moment, Moment)>);

impl Delays {
    /// Whether what was due at `due` is too late at `at`: a lost wake-up costs a few seconds, never more.
    fn too_late(&self, at: Moment, due: Moment) -> bool {
        let within = |(from, to): &(Moment, Moment)| (*to).min(at).saturating_sub((*from).max(due));
        at.saturating_sub(due) > LATE + self.0.iter().map(within).sum::<Moment>()
    }
}

fn no_timer_is_late(case: &Case<'_>, delays: &Delays) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut late = |what: &str, at, due| {
        let (at, due) = (moment_of(at), moment_of(due));
        if delays.too_late(at, due) {
            wrong.push(format!("{what} at {at}, which was due at {due}"));
        }
    };
    let mut until = BTreeMap::new();
    let mut deadline = None;
    for Entry { at, event, .. } in &case.journal {
        match event {
            Event::Started { deadline: due } => deadline = Some(*due),
            Event::TimerStarted { step, until: due } => drop(until.insert(step, *due)),
            Event::StepFinished { step, .. } if until.contains_key(step) => {
                late("a wait ended", *at, until[step])
            }
            Event::DeadlinePassed => late("the timeout passed", *at, deadline.unwrap_or(*at)),
            Event::Finished { status: ExecutionStatus::Expired, .. } => {
                late("it expired", *at, case.state.created.queue_deadline);
            }
            Event::Finished { status: ExecutionStatus::NotVerified, .. } => {
                let due = case.state.verify.as_ref().map_or(*at, |proof| proof.until);
                late("the proof was given up", *at, due);
            }
            _ => {}
        }
    }
    wrong
}

/// What people were told is heard: a resolved alert is in the journal, and a stop is the end.
fn a_word_is_heard_soon(case: &Case<'_>, stage: &Stage, delays: &Delays) -> Vec<String> {
    let mut wrong = Vec::new();
    let memory = stage.memory.lock().unwrap();
    let over = case.state.finished_at.map_or(Moment::MAX, moment_of);
    for (_, told) in memory.resolved.iter().filter(|(id, _)| *id == case.id) {
        let heard = case.state.resolved_at.map_or(over, moment_of);
        if delays.too_late(heard, *told) {
            wrong.push(format!("its alert resolved at {told}, that was heard at {heard}"));
        }
    }
    // What tidies up at the end takes its time.
    if case.runbook.steps.iter().any(|step| step.is_finally) {
        return wrong;
    }
    for (_, told) in memory.stopped.iter().filter(|(id, _)| *id == case.id) {
        if delays.too_late(over, *told) {
            wrong.push(format!("its stop was acknowledged at {told}, it ended at {over}"));
        }
    }
    wrong
}

fn nothing_accepted_is_lost(stage: &Stage, cases: &[Case<'_>]) -> Vec<String> {
    let memory = stage.memory.lock().unwrap();
    let known = |id: &ExecutionId| cases.iter().any(|case| case.id == *id);
    let lost = memory.accepted.values().filter(|id| !known(id));
    let mut wrong: Vec<String> = lost.map(|id| format!("{id} was accepted and is lost")).collect();
    let records = stage.records();
    let live = records.live(None, usize::MAX).now_or_never().unwrap().unwrap();
    wrong.extend(
        live.iter()
            .filter(|header| header.status.is_final())
            .map(|header| format!("{} is {} and still in the list of the live", header.id, header.status)),
    );
    let signals = records.signals(usize::MAX).now_or_never().unwrap().unwrap();
    wrong.extend(signals.iter().map(|(ulid, _)| format!("a signal for {ulid} was left behind")));
    wrong
}

/// I4, in the journals and in the world.
fn one_lock_has_one_holder(cases: &[Case<'_>]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut spans: BTreeMap<&str, Vec<(Moment, Moment, &ExecutionId)>> = BTreeMap::new();
    for case in cases {
        let Some(lock) = case.state.created.lock.as_deref() else { continue };
        let began = case.runs.iter().map(|run| run.began).chain(case.started()).min();
        let ends = case.runs.iter().filter_map(|run| Some(run.ended?.0));
        let ended = ends.chain(case.state.finished_at.map(moment_of)).max();
        if let (Some(began), Some(ended)) = (began, ended) {
            spans.entry(lock).or_default().push((began, ended, &case.id));
        }
    }
    for (lock, mut spans) in spans {
        spans.sort();
        for pair in spans.windows(2) {
            let ((_, ended, first), (began, _, second)) = (pair[0], pair[1]);
            if began < ended {
                wrong.push(format!("{first} held {lock:?} until {ended}, {second} began at {began}"));
            }
        }
    }
    wrong
}

/// I3, as far as `max_running` goes: executions with a step in progress.
fn no_more_run_than_may(stage: &Stage, ledger: &[Run]) -> Vec<String> {
    let mut changes: Vec<(Moment, bool, &ExecutionId)> = Vec::new();
    for run in ledger {
        let ended = run.ended.map_or(Moment::MAX, |(at, _)| at);
        changes.extend([(run.began, true, &run.execution), (ended, false, &run.execution)]);
    }
    // What ends in the same millisecond makes room first; an end never comes before its own beginning.
    changes.sort_by_key(|(at, begins, _)| (*at, *begins));
    let mut running: BTreeMap<&ExecutionId, i64> = BTreeMap::new();
    for (at, begins, id) in changes {
        *running.entry(id).or_default() += if begins { 1 } else { -1 };
        let count = running.values().filter(|open| **open > 0).count();
        if count > stage.plan.max_running {
            return vec![format!("{count} run at {at}, {} may", stage.plan.max_running)];
        }
    }
    Vec::new()
}
