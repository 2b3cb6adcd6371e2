//! What must be true of every execution, whatever was done to it. One function per promise.
//!
//! Judges three things only: the ledger (what really happened), the journals (what is durable) and what people were
//! told. `attempts`, `timers`, `people`, `guards` and `family` hold the promises to one execution and its next of kin, and what
//! all of them owe each other is here. A new promise is one more function, called in [`check`].
//! Must never: ask the engine.

mod attempts;
mod breakers;
mod family;
mod guards;
mod people;
mod timers;

use super::life::Stage;
use super::time::{Moment, moment_of};
use super::world::Run;
use crate::journal::{Entry, Event, State};
use crate::model::{ExecutionId, ExecutionStatus, Reason, StepId, StepStatus};
use crate::runbook::{OnFailure, OnResolved, Runbook, Step};
use crate::store::Scan;
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
    fn index(&self, step: &StepId) -> usize {
        self.runbook.steps.iter().position(|own| own.id == *step).expect("an event of no step")
    }

    fn step(&self, step: &StepId) -> &Step {
        &self.runbook.steps[self.index(step)]
    }

    /// The execution that holds lock and slot.
    fn root(&self) -> &ExecutionId {
        self.state.created.parent.as_ref().map_or(&self.id, |parent| &parent.root)
    }

    fn started(&self) -> Option<Moment> {
        self.state.started_at.map(moment_of)
    }

    /// Every entry but the first, with the state it met.
    fn walk(&self, mut see: impl FnMut(&State, &Entry)) {
        let mut state = State::new(self.state.created.clone(), self.journal[0].at);
        for entry in &self.journal[1..] {
            see(&state, entry);
            state.apply(entry).expect("it was replayed before");
        }
    }
}

/// What came out.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// What is wrong, sentence by sentence; empty when every promise was kept.
    pub(super) wrong: Vec<String>,
    /// The words of all events, statuses and acknowledged verbs there were: what was never there was not tested.
    pub(super) seen: BTreeSet<&'static str>,
}

/// Looks whether every promise was kept.
pub(super) fn check(stage: &Stage) -> Findings {
    let mut wrong = stage.memory.lock().unwrap().trouble.clone();
    let ledger = stage.ledger.lock().unwrap().clone();
    let cases = match cases(stage, &ledger) {
        Ok(cases) => cases,
        Err(trouble) => {
            wrong.push(trouble);
            return Findings { wrong, seen: BTreeSet::new() };
        }
    };
    for case in &cases {
        let delays = Delays::of(case, stage);
        let mut say = |what: Vec<String>| {
            wrong.extend(what.into_iter().map(|what| format!("{}: {what}", case.id)));
        };
        say(the_journal_is_whole(case));
        say(it_is_over_and_nothing_followed(case));
        say(the_outcome_fits_the_steps(case));
        say(attempts::check(case, stage));
        say(timers::check(case, &delays));
        say(people::check(case, &cases, stage, &delays));
        say(family::check(case, &cases, &delays));
    }
    wrong.extend(nothing_accepted_is_lost(stage, &cases));
    wrong.extend(one_lock_has_one_holder(&cases));
    wrong.extend(no_more_run_than_may(stage, &cases));
    wrong.extend(nothing_starts_on_a_quarantined_target(&cases));
    wrong.extend(breakers::check(&cases, stage));
    wrong.extend(guards::check(stage, &cases));
    let mut seen: BTreeSet<&'static str> =
        stage.memory.lock().unwrap().said.iter().map(|said| said.verb.as_str()).collect();
    seen.extend(&stage.memory.lock().unwrap().reasons);
    for case in &cases {
        seen.insert(case.state.status.as_str());
        seen.extend(case.state.reason.map(Reason::as_str));
        seen.extend(case.journal.iter().map(|entry| entry.event.kind()));
    }
    Findings { wrong, seen }
}

/// Every execution there is, by the time of its acceptance.
pub(super) fn headers(stage: &Stage) -> Result<Vec<Header>, String> {
    let all = Scan { prefix: b"x/".to_vec(), after: None, reverse: false, limit: usize::MAX };
    let stored = stage.records().store().scan(all).now_or_never().unwrap();
    let stored = stored.map_err(|error| error.to_string())?;
    let header =
        |(_, bytes): &(Vec<u8>, Vec<u8>)| serde_json::from_slice(bytes).map_err(|error| error.to_string());
    stored.iter().map(header).collect()
}

fn cases<'c>(stage: &'c Stage, ledger: &'c [Run]) -> Result<Vec<Case<'c>>, String> {
    headers(stage)?.into_iter().map(|header| case(stage, ledger, header)).collect()
}

fn case<'c>(stage: &'c Stage, ledger: &'c [Run], header: Header) -> Result<Case<'c>, String> {
    let (records, id) = (stage.records(), header.id.clone());
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
        // A step that was no longer wanted has not failed.
        let unwanted =
            seen.reason == Some(Reason::Resolved) && case.runbook.on_resolved == OnResolved::Finish;
        let fine = unwanted || matches!(seen.status, StepStatus::Succeeded | StepStatus::Skipped);
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

/// The times in which nothing can be expected.
struct Delays(Vec<(Moment, Moment)>);

impl Delays {
    /// Nobody is there, or the execution is held.
    fn of(case: &Case<'_>, stage: &Stage) -> Self {
        let mut spans = stage.hindrances();
        let mut held = None;
        for Entry { at, event, .. } in &case.journal {
            match event {
                Event::Paused { .. } => held = Some(moment_of(*at)),
                Event::Resumed { .. } | Event::Ending { .. } | Event::Finished { .. } => {
                    spans.extend(held.take().map(|from| (from, moment_of(*at))));
                }
                _ => {}
            }
        }
        Self(spans)
    }

    /// Whether what was due at `due` is too late at `at`: a lost wake-up costs a few seconds, never more.
    fn too_late(&self, at: Moment, due: Moment) -> bool {
        let within = |(from, to): &(Moment, Moment)| (*to).min(at).saturating_sub((*from).max(due));
        at.saturating_sub(due) > LATE + self.0.iter().map(within).sum::<Moment>()
    }
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

/// I4, in the journals and in the world: what a child does is done under the lock of the one at the top, and what it
/// changes besides is changed by nobody else meanwhile.
fn one_lock_has_one_holder(cases: &[Case<'_>]) -> Vec<String> {
    let mut spans: BTreeMap<&str, Vec<(Moment, Moment, &ExecutionId)>> = BTreeMap::new();
    for holder in cases {
        let Some(lock) = holder.state.created.lock.as_deref() else { continue };
        let is_below = |case: &Case<'_>| {
            case.id == holder.id
                || case.state.created.parent.as_ref().is_some_and(|parent| {
                    parent.id == holder.id
                        || (holder.state.created.parent.is_none() && parent.root == holder.id)
                })
        };
        let runs = || cases.iter().filter(|case| is_below(case)).flat_map(|case| &case.runs);
        let began = runs().map(|run| run.began).chain(holder.started()).min();
        let ends = runs().filter_map(|run| Some(run.ended?.0));
        let ended = ends.chain(holder.state.finished_at.map(moment_of)).max();
        if let (Some(began), Some(ended)) = (began, ended) {
            spans.entry(lock).or_default().push((began, ended, holder.root()));
        }
    }
    let mut wrong = Vec::new();
    for (lock, spans) in spans {
        for (at, (from, until, first)) in spans.iter().enumerate() {
            let overlaps = spans[at + 1..]
                .iter()
                .filter(|(began, ended, second)| second != first && began.max(from) < ended.min(until));
            wrong.extend(overlaps.map(|(began, ended, second)| {
                format!("{first} held {lock:?} from {from} to {until}, {second} from {began} to {ended}")
            }));
        }
    }
    wrong
}

/// I3, as far as `max_running` goes: executions with a step in progress, a child counting as its root.
fn no_more_run_than_may(stage: &Stage, cases: &[Case<'_>]) -> Vec<String> {
    let mut changes: Vec<(Moment, bool, &ExecutionId)> = Vec::new();
    for (case, run) in cases.iter().flat_map(|case| case.runs.iter().map(move |run| (case, run))) {
        let ended = run.ended.map_or(Moment::MAX, |(at, _)| at);
        changes.extend([(run.began, true, case.root()), (ended, false, case.root())]);
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

/// I6, as far as the quarantine goes, which nobody clears here: automation keeps away from where a rollback failed.
fn nothing_starts_on_a_quarantined_target(cases: &[Case<'_>]) -> Vec<String> {
    let mut wrong = Vec::new();
    for failed in cases.iter().filter(|case| case.state.status == ExecutionStatus::RollbackFailed) {
        let (target, since) = (&failed.state.created.target, failed.state.finished_at);
        let late = cases.iter().filter(|case| {
            let created = &case.state.created;
            // What a step starts is asked for in the commit that creates it.
            let begun =
                if created.parent.is_some() { Some(case.journal[0].at) } else { case.state.started_at };
            created.acts_by_itself() && created.target == *target && begun > since
        });
        wrong.extend(
            late.map(|case| format!("{} started although {} failed to roll back", case.id, failed.id)),
        );
    }
    wrong
}
