//! One execution being driven: inputs become events, events are committed, and only then obeyed.
//!
//! A driver exists only while its execution has something in progress. It asks `transition` what comes next
//! until that has nothing more to record, commits all of it at once (so the outcome of one step and the
//! intent of the next share a commit), and then starts or kills what the events demand. Killing alone may
//! come first: it makes nothing worse. `think` is the asking, `attempts` the doing, `questions` the looking.

mod attempts;
mod child;
mod commit;
pub(super) mod first;
mod guards;
mod questions;
mod switch;
mod think;

use super::registry::{Input, Reply};
use super::transition::{self, Consequence};
use super::verb::{self, Answer, Ask, Verb};
use super::{Shared, VerbError};
use crate::journal::{AttemptResult, Entry, Event, State};
use crate::model::{AttemptOutcome, ExecutionId, ExecutionStatus, GateReport, Part, Role, Timestamp};
use crate::report;
use crate::runbook::Runbook;
use crate::step::Killer;
use crate::store::CommitError;
use crate::store::records::Header;
use commit::Commit;
use guards::Denied;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use think::Round;
use tokio::task::JoinSet;

/// Between SIGTERM and SIGKILL when a person stops an execution, or the daemon is going.
const STOP_GRACE: Duration = Duration::from_secs(1);
/// Between SIGTERM and SIGKILL when time ran out.
const TIMEOUT_GRACE: Duration = Duration::from_secs(5);
/// Between two tries of a commit while the disk is full.
const FULL_PAUSE: Duration = Duration::from_secs(1);

/// A driver.
pub(super) struct Drive {
    shared: Arc<Shared>,
    id: ExecutionId,
    runbook: Arc<Runbook>,
    state: State,
    /// The attempts in progress, by the step's position and part: in an order, so that a simulation can be repeated.
    attempts: BTreeMap<(usize, Part), Running>,
    /// Their tasks: they end with the driver, and their processes with them.
    tasks: JoinSet<()>,
    questions: questions::Questions,
    /// What the breakers did not allow in the round that is being thought.
    denied: Vec<Denied>,
    /// A slot and its lock are its own, so it may leave the queue.
    may_start: bool,
    /// The daemon is going: outcomes are recorded as interrupted.
    interrupting: bool,
    /// What was asked before it may leave the queue is on its way.
    asks_first: bool,
    /// What came of that, and when.
    first_answers: Option<(Timestamp, Vec<GateReport>)>,
    /// It may leave the queue, but the kill switch keeps it there.
    held_back: bool,
}

struct Running {
    killer: Killer,
    timed_out: bool,
}

impl Drive {
    pub(super) fn new(shared: Arc<Shared>, runbook: Arc<Runbook>, state: State) -> Self {
        Self {
            id: state.created.id.clone(),
            shared,
            runbook,
            state,
            attempts: BTreeMap::new(),
            tasks: JoinSet::new(),
            questions: questions::Questions::default(),
            denied: Vec::new(),
            may_start: false,
            interrupting: false,
            asks_first: false,
            first_answers: None,
            held_back: false,
        }
    }

    /// Drives until the execution is over or parked.
    pub(super) async fn run(mut self) {
        // Nobody but a driver starts attempts, so what is open belongs to an earlier life of the daemon.
        let left_open = transition::resume(&self.runbook, &self.state);
        if !left_open.is_empty() && !self.record(left_open, Vec::new()).await {
            return;
        }
        self.remind_children();
        loop {
            let inputs = self.shared.registry().take_inputs(&self.id);
            if self.is_aborted() {
                // Nothing that has to be written comes before this.
                self.kill(STOP_GRACE, false, true);
            }
            let mut replies = Vec::new();
            let events = self.hear(inputs, &mut replies);
            if !self.record(events, replies).await {
                return;
            }
            if self.state.status.is_final() {
                return self.shared.ended(&self.id);
            }
            if self.rest().await {
                return;
            }
        }
    }

    /// Turns inputs into the events they are, and kills at once what must end.
    fn hear(&mut self, inputs: Vec<Input>, replies: &mut Vec<Reply>) -> Vec<Event> {
        let mut events = Vec::new();
        for input in inputs {
            match input {
                Input::Start => self.may_start = true,
                // A slot or a tick brings nothing but the reason to look again.
                Input::Slot | Input::Tick => {}
                // The same word may have been left more than once before anybody listened.
                Input::Resolved => {
                    if self.state.resolved_at.is_none() && !events.contains(&Event::AlertResolved) {
                        events.push(Event::AlertResolved);
                    }
                }
                Input::Asked { ask, reply } => self.asked(&ask, reply, &mut events, replies),
                Input::Reminded { parent } => {
                    if let Some(ask) = self.reminded(&parent) {
                        self.asked(&ask, None, &mut events, replies);
                    }
                }
                Input::Ended { index, part, attempt, result } => {
                    events.extend(self.ended(index, part, attempt, *result));
                }
                Input::ChildEnded { child, status, reason } => {
                    events.extend(self.child_ended(&child, status, reason));
                }
                Input::Observed { step, holds, detail } => {
                    self.questions.answered(step);
                    events.extend(self.observed(step, holds, detail));
                }
                Input::Answered(reports) => {
                    self.asks_first = false;
                    self.first_answers = Some((self.shared.clock.now(), reports));
                }
                Input::Interrupt => {
                    self.interrupting = true;
                    self.kill(STOP_GRACE, false, false);
                }
            }
        }
        events
    }

    /// A person's request, judged by the state as it is with all that was heard before it.
    fn asked(&mut self, ask: &Ask, reply: Option<Reply>, events: &mut Vec<Event>, replies: &mut Vec<Reply>) {
        let now = self.shared.clock.now();
        let mut state = self.state.clone();
        for (event, seq) in events.iter().zip(state.seq + 1..) {
            // What does not fit is left out later, with a word in the log.
            let _misfit = state.apply(&Entry { seq, at: now, event: event.clone() });
        }
        let held = || self.must_not_begin(&state, now).filter(|_| ask.verb == Verb::Approve);
        let answer = match verb::answer(&self.runbook, &state, now, ask) {
            Answer::Record(more) => held().map_or(Answer::Record(more), Answer::Conflict),
            answer => answer,
        };
        let refused = match answer {
            Answer::Record(more) => {
                if matches!(ask.verb, Verb::Stop | Verb::Rollback) {
                    self.kill(STOP_GRACE, false, false);
                }
                events.extend(more);
                replies.extend(reply);
                return;
            }
            Answer::AlreadySo => {
                replies.extend(reply);
                return;
            }
            // It has ended since the asker looked; they look again.
            Answer::Anew(_) => return,
            answer => VerbError::from_answer(state.status, answer),
        };
        if let Some(reply) = reply {
            // The asker may have gone.
            let _gone = reply.send(Err(refused));
        }
    }

    fn ended(&mut self, index: usize, part: Part, attempt: u32, result: AttemptResult) -> Vec<Event> {
        let Some(running) = self.attempts.remove(&(index, part)) else { return Vec::new() };
        let killed = result.outcome == AttemptOutcome::Stopped;
        if killed && self.interrupting && self.state.stop.is_none() {
            let step = &self.state.created.steps[index].id;
            let of_this = |event: &Event| matches!(event, Event::AttemptFinished { step: id, part: of, .. } if id == step && *of == part);
            return transition::resume(&self.runbook, &self.state).into_iter().filter(of_this).collect();
        }
        let outcome = match result.outcome {
            AttemptOutcome::Stopped if running.timed_out => AttemptOutcome::TimedOut,
            outcome => outcome,
        };
        let step = &self.state.created.steps[index].id;
        tracing::debug!(execution_id = %self.id, %step, %part, outcome = outcome.as_str(), "attempt ended");
        vec![attempts::finished(&self.state, index, part, attempt, AttemptResult { outcome, ..result })]
    }

    /// Ends what is in progress; undos only where `undos` says so, because half an undo is worse than either end.
    fn kill(&mut self, grace: Duration, timed_out: bool, undos: bool) {
        for ((_, part), running) in &mut self.attempts {
            if undos || part.role != Role::Undo {
                running.timed_out |= timed_out;
                running.killer.kill(grace);
            }
        }
    }

    /// Adds what follows to `events`, commits, and carries out. False when the driver must go.
    async fn record(&mut self, events: Vec<Event>, replies: Vec<Reply>) -> bool {
        let now = self.shared.clock.now();
        self.denied.clear();
        let (round, state) = loop {
            let Some((round, state)) = self.think(events.clone(), now) else { return false };
            if round.events.is_empty() {
                break (round, state);
            }
            match self.commit(&round, &state, now).await {
                Ok(()) => break (round, state),
                // Another thought, in which that does not begin; every denial takes one more thing away.
                Err(Some(denied)) => self.denied.push(denied),
                Err(None) => return false,
            }
        };
        self.held_back = self.may_start && state.status == ExecutionStatus::Queued;
        if !round.events.is_empty() {
            let before = std::mem::replace(&mut self.state, state);
            self.obey(&before, &round.events);
            self.tell(&before, &round.events);
        }
        self.carry_out(round);
        for reply in replies {
            // The asker may have gone; what was done stands all the same.
            let _gone = reply.send(Ok(self.state.status));
        }
        true
    }

    /// Makes the round durable. What the breakers deny is given back; with nothing, the driver must go.
    async fn commit(&mut self, round: &Round, state: &State, now: Timestamp) -> Result<(), Option<Denied>> {
        let wake =
            round.wake.filter(|_| !round.in_line && round.starts.is_empty() && self.attempts.is_empty());
        let wake = questions::wake_anew(&self.runbook, state, wake, now);
        let entries = round.events.iter().zip(self.state.seq + 1..);
        let entries = entries.map(|(event, seq)| Entry { seq, at: now, event: event.clone() });
        let commit = Commit {
            entries: entries.collect(),
            header: header_of(state, wake),
            children: round.children.clone(),
            guards: self.guards(round, state, now),
            words: report::words(&self.runbook, &self.state, state, &round.events, now),
            now,
        };
        let mut told = false;
        loop {
            let (committed, denied) = commit.clone().run(&self.shared, &self.id).await;
            if denied.is_some() {
                return Err(denied);
            }
            match committed {
                Ok(changes) => {
                    super::tell::breakers(&self.id, &self.runbook, &changes);
                    return Ok(());
                }
                Err(error @ CommitError::Full { .. }) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::error!(execution_id = %self.id, %error, "the execution waits for room on the disk");
                    }
                    let aborted = self.is_aborted();
                    if aborted || self.shared.registry().has_stop(&self.id) {
                        self.kill(STOP_GRACE, false, aborted);
                    }
                    tokio::time::sleep(FULL_PAUSE).await;
                }
                Err(CommitError::Shut) => return Err(None),
                Err(error @ CommitError::Failed(_)) => {
                    self.kill(Duration::ZERO, false, true);
                    self.shared.fatal(&error.to_string());
                    return Err(None);
                }
                Err(error @ (CommitError::Refused(_) | CommitError::Read(_))) => {
                    self.kill(Duration::ZERO, false, true);
                    tracing::error!(execution_id = %self.id, %error, "the execution is left alone until a stop or the next start");
                    self.shared.registry().abandon(&self.id);
                    return Err(None);
                }
            }
        }
    }

    /// Ends what durable events say must end.
    fn obey(&mut self, before: &State, events: &[Event]) {
        for event in events {
            match transition::consequence(&self.runbook, before, event) {
                Some(Consequence::KillStopped) => self.end_all(STOP_GRACE, false, false),
                Some(Consequence::KillTimedOut) => self.end_all(TIMEOUT_GRACE, true, false),
                Some(Consequence::KillAll) => self.end_all(STOP_GRACE, false, true),
                Some(Consequence::Start) | None => {}
            }
        }
    }

    fn end_all(&mut self, grace: Duration, timed_out: bool, undos: bool) {
        self.kill(grace, timed_out, undos);
        self.stop_children();
    }

    /// Does what the round's events demand of the world, now that they are durable.
    fn carry_out(&mut self, round: Round) {
        self.take_in(&round.children);
        if let Some(questions) = round.asks_first {
            self.ask_first(questions);
        }
        for start in round.starts {
            self.start(start);
        }
        let now = self.shared.clock.now();
        let wake = [round.wake, self.ask_what_is_due(now)].into_iter().flatten().min();
        let mut registry = self.shared.registry();
        let is_new = registry.set_timer(&self.id, wake);
        if is_new && wake.is_some() && registry.next_timer() == wake {
            // The scheduler sleeps until what was the next one before.
            self.shared.wake.notify_one();
        }
    }

    /// Waits for the next input; true when the driver may go.
    async fn rest(&mut self) -> bool {
        let bell = self.shared.registry().bell(&self.id);
        let Some(bell) = bell else { return true };
        // Who is told to go does not wait for an answer that changes nothing.
        let looks = self.asks_first || !self.questions.none_is_asked();
        if self.attempts.is_empty() && (self.interrupting || !looks) {
            let mut registry = self.shared.registry();
            if self.held_back && registry.hold(&self.id, self.state.created_at) {
                // It is in the queue again, and counts there; its slot is another one's.
                let _beyond_the_limit = self.shared.queue.try_add(1, usize::MAX);
                drop(registry);
                self.shared.wake.notify_one();
                return true;
            }
            let wake = registry.timer_of(&self.id);
            if registry.park(&self.id, wake) {
                drop(registry);
                self.shared.wake.notify_one();
                return true;
            }
            return false;
        }
        bell.notified().await;
        false
    }

    /// Metrics, logs and watchers, once the events are durable.
    fn tell(&self, before: &State, events: &[Event]) {
        super::tell::tell(&self.shared, &self.runbook, before, &self.state, events);
        self.shared.registry().set_status(&self.id, self.state.status);
        self.shared.announce(&self.id);
    }
}

/// The header that says what `state` says.
pub(super) fn header_of(state: &State, wake: Option<Timestamp>) -> Header {
    let created = &state.created;
    Header {
        id: created.id.clone(),
        runbook: created.runbook.clone(),
        version: created.version,
        title: created.title.clone(),
        status: state.status,
        reason: state.reason,
        target: created.target.clone(),
        trigger: created.trigger.kind,
        alertname: created.trigger.alertname.clone(),
        created_at: state.created_at,
        started_at: state.started_at,
        finished_at: state.finished_at,
        parent: created.parent.clone(),
        lock: created.lock.clone(),
        wake,
        seq: state.seq,
    }
}
