//! One execution being driven: inputs become events, events are committed, and only then obeyed.
//!
//! A driver exists only while its execution has something in progress. It asks `transition` what comes next
//! until that has nothing more to record, commits all of it at once (so the outcome of one step and the
//! intent of the next share a commit), and then starts or kills what the events demand. Killing alone may
//! come first: it makes nothing worse.

use super::call::{self, Work};
use super::registry::Input;
use super::transition::{self, Consequence, Next};
use super::{Shared, observe};
use crate::journal::{AttemptResult, Entry, Event, Output, State};
use crate::model::{AttemptOutcome, ExecutionId, ExecutionStatus, StepStatus, Timestamp, after};
use crate::runbook::{Condition, Kind, Question, Runbook};
use crate::step::{AttemptContext, Captured, Finished, KillSignal, Killer, kill_pair};
use crate::store::CommitError;
use crate::store::records::{Header, append, transact};
use futures_util::FutureExt as _;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
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
    /// The attempts in progress, by the step's position.
    attempts: HashMap<usize, Running>,
    /// Their tasks: they end with the driver, and their processes with them.
    tasks: JoinSet<()>,
    /// A verify question is being asked.
    asking: bool,
    /// When to ask it again.
    next_question: Option<Timestamp>,
    /// A slot and its lock are its own, so it may leave the queue.
    may_start: bool,
    /// The daemon is going: outcomes are recorded as interrupted.
    interrupting: bool,
}

struct Running {
    killer: Killer,
    timed_out: bool,
}

/// What one round of thinking came to.
#[derive(Default)]
struct Round {
    events: Vec<Event>,
    starts: Vec<(usize, u32, Work)>,
    wake: Option<Timestamp>,
    /// It could go on but for a slot, so a restart must look at it at once.
    in_line: bool,
}

impl Drive {
    pub(super) fn new(shared: Arc<Shared>, runbook: Arc<Runbook>, state: State) -> Self {
        Self {
            id: state.created.id.clone(),
            shared,
            runbook,
            state,
            attempts: HashMap::new(),
            tasks: JoinSet::new(),
            asking: false,
            next_question: None,
            may_start: false,
            interrupting: false,
        }
    }

    /// Drives until the execution is over or parked.
    pub(super) async fn run(mut self) {
        if self.state.has_open_attempt() {
            // Nobody but a driver starts attempts, so what is open belongs to an earlier life of the daemon.
            let events = transition::resume(&self.state);
            if !self.record(events, Vec::new()).await {
                return;
            }
        }
        loop {
            let inputs = self.shared.registry().take_inputs(&self.id);
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
    fn hear(
        &mut self,
        inputs: Vec<Input>,
        replies: &mut Vec<oneshot::Sender<ExecutionStatus>>,
    ) -> Vec<Event> {
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
                Input::Stop { actor, reason, reply } => {
                    self.kill(STOP_GRACE, false);
                    let said = |event: &Event| matches!(event, Event::StopRequested { .. });
                    if self.state.stop.is_none() && !events.iter().any(said) {
                        events.push(Event::StopRequested { actor, reason });
                    }
                    replies.push(reply);
                }
                Input::Ended { index, attempt, result } => events.extend(self.ended(index, attempt, *result)),
                Input::Observed { holds, detail } => {
                    self.asking = false;
                    events.extend(self.observed(holds, detail));
                }
                Input::Interrupt => {
                    self.interrupting = true;
                    self.kill(STOP_GRACE, false);
                }
            }
        }
        events
    }

    fn ended(&mut self, index: usize, attempt: u32, result: AttemptResult) -> Vec<Event> {
        let Some(running) = self.attempts.remove(&index) else { return Vec::new() };
        let killed = result.outcome == AttemptOutcome::Stopped;
        if killed && self.interrupting && self.state.stop.is_none() {
            return transition::resume(&self.state);
        }
        let outcome = match result.outcome {
            AttemptOutcome::Stopped if running.timed_out => AttemptOutcome::TimedOut,
            outcome => outcome,
        };
        self.note_attempt(index, outcome);
        vec![finished(&self.state, index, attempt, AttemptResult { outcome, ..result })]
    }

    /// Only a change of the answer is worth an event.
    fn observed(&self, holds: bool, detail: String) -> Option<Event> {
        let verify =
            self.state.verify.as_ref().filter(|_| self.state.status == ExecutionStatus::Verifying)?;
        let unchanged = verify.detail.is_some() && verify.holds_since.is_some() == holds;
        (!unchanged).then_some(Event::VerifyObserved { holds, detail })
    }

    fn kill(&mut self, grace: Duration, timed_out: bool) {
        for running in self.attempts.values_mut() {
            running.timed_out |= timed_out;
            running.killer.kill(grace);
        }
    }

    /// Adds what follows to `events`, commits, and carries out. False when the driver must go.
    async fn record(&mut self, events: Vec<Event>, replies: Vec<oneshot::Sender<ExecutionStatus>>) -> bool {
        let now = self.shared.clock.now();
        let Some((round, state)) = self.think(events, now) else { return false };
        if !round.events.is_empty() {
            let entries: Vec<Entry> = round
                .events
                .iter()
                .zip(self.state.seq + 1..)
                .map(|(event, seq)| Entry { seq, at: now, event: event.clone() })
                .collect();
            let wake =
                round.wake.filter(|_| !round.in_line && round.starts.is_empty() && self.attempts.is_empty());
            if !self.commit(entries, header_of(&state, wake)).await {
                return false;
            }
            let before = std::mem::replace(&mut self.state, state);
            self.tell(&before, &round.events);
        }
        self.carry_out(round);
        for reply in replies {
            // The asker may have gone; the stop stands all the same.
            let _gone = reply.send(self.state.status);
        }
        true
    }

    /// Applies `events` to a copy of the state, and then all that follows from it.
    fn think(&self, events: Vec<Event>, now: Timestamp) -> Option<(Round, State)> {
        let mut round = Round::default();
        let mut state = self.state.clone();
        let fold = |state: &mut State, round: &mut Round, event: Event| {
            let entry = Entry { seq: state.seq + 1, at: now, event };
            match state.apply(&entry) {
                Ok(()) => {
                    round.events.push(entry.event);
                    true
                }
                Err(error) => {
                    tracing::error!(execution_id = %self.id, %error, "an event does not fit the execution; it is left out");
                    false
                }
            }
        };
        for event in events {
            fold(&mut state, &mut round, event);
        }
        loop {
            let event = match transition::next(&self.runbook, &state, now) {
                Next::Done => return Some((round, state)),
                // Only now: what resolved, expired or stopped it while it was queued has been heard.
                Next::Idle { .. } if self.may_start && state.status == ExecutionStatus::Queued => {
                    let timeout = Duration::from_millis(state.created.timeout_ms);
                    Event::Started { deadline: after(now, timeout) }
                }
                Next::Idle { wake } => {
                    round.wake = wake;
                    return Some((round, state));
                }
                Next::Record(event) => event,
                Next::Begin { index, attempt } => match self.begin(&state, index, attempt, now) {
                    Begin::Later => {
                        round.wake = state.deadline;
                        round.in_line = true;
                        return Some((round, state));
                    }
                    Begin::Event(event) => event,
                    Begin::Intend(event, work) => {
                        if work.takes_time() {
                            round.starts.push((index, attempt, work));
                            event
                        } else {
                            if !fold(&mut state, &mut round, event) {
                                return None;
                            }
                            finished(&state, index, attempt, self.instant(index, work))
                        }
                    }
                },
            };
            // What the machine itself says must fit; if not, going on would loop for ever.
            if !fold(&mut state, &mut round, event) {
                return None;
            }
        }
    }

    fn begin(&self, state: &State, index: usize, attempt: u32, now: Timestamp) -> Begin {
        let step = &self.runbook.steps[index];
        if self.interrupting || self.shared.registry().is_draining() {
            return Begin::Later;
        }
        let (work, plan) = match call::work(&self.runbook, state, index) {
            Ok(rendered) => rendered,
            Err(error) => {
                let (step, status) = (step.id.clone(), StepStatus::Failed);
                return Begin::Event(Event::StepFinished { step, status, error: Some(error) });
            }
        };
        if work.takes_time() && !self.shared.registry().take_slot(&self.id) {
            return Begin::Later;
        }
        let deadline = after(now, step.timeout);
        Begin::Intend(Event::StepIntended { step: step.id.clone(), attempt, deadline, plan }, work)
    }

    /// The outcome of work that takes no time.
    fn instant(&self, index: usize, work: Work) -> AttemptResult {
        match work {
            Work::Answer(answer) => judge_check(&self.runbook.steps[index].kind, answer),
            Work::Text(text) => {
                let shown = text[..text.floor_char_boundary(crate::step::INLINE)].to_owned();
                AttemptResult::plain(AttemptOutcome::Succeeded, shown, None)
            }
            Work::Call(_) | Work::FileExists(_) => {
                AttemptResult::plain(AttemptOutcome::Unknown, String::new(), None)
            }
        }
    }

    async fn commit(&mut self, entries: Vec<Entry>, header: Header) -> bool {
        let mut told = false;
        loop {
            let (id, batch, head) = (self.id.clone(), entries.clone(), header.clone());
            let store = Arc::clone(self.shared.records.store());
            match transact(&*store, move |txn| append(txn, &id, &batch, &head)).await {
                Ok(()) => return true,
                Err(error @ CommitError::Full { .. }) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::error!(execution_id = %self.id, %error, "the execution waits for room on the disk");
                    }
                    if self.shared.registry().has_stop(&self.id) {
                        self.kill(STOP_GRACE, false);
                    }
                    tokio::time::sleep(FULL_PAUSE).await;
                }
                Err(CommitError::Shut) => return false,
                Err(error @ CommitError::Failed(_)) => {
                    self.kill(Duration::ZERO, false);
                    self.shared.fatal(&error.to_string());
                    return false;
                }
                Err(error @ (CommitError::Refused(_) | CommitError::Read(_))) => {
                    self.kill(Duration::ZERO, false);
                    tracing::error!(execution_id = %self.id, %error, "the execution is left alone until a stop or the next start");
                    self.shared.registry().abandon(&self.id);
                    return false;
                }
            }
        }
    }

    /// Does what the round's events demand of the world, now that they are durable.
    fn carry_out(&mut self, round: Round) {
        for event in &round.events {
            match transition::consequence(&self.runbook, event) {
                Some(Consequence::KillStopped) => self.kill(STOP_GRACE, false),
                Some(Consequence::KillTimedOut) => self.kill(TIMEOUT_GRACE, true),
                Some(Consequence::Start) | None => {}
            }
        }
        for (index, attempt, work) in round.starts {
            self.start(index, attempt, work);
        }
        let now = self.shared.clock.now();
        let mut wake = round.wake;
        if self.state.status == ExecutionStatus::Verifying {
            self.ask_if_due(now);
            // A question that is due but not asked waits for an answer or an end, not for a time that has passed.
            let question = self.next_question.filter(|at| now < *at);
            wake = [wake, question].into_iter().flatten().min();
        }
        let mut registry = self.shared.registry();
        let is_new = registry.timer_of(&self.id) != wake;
        registry.set_timer(&self.id, wake);
        if is_new && wake.is_some() && registry.next_timer() == wake {
            // The scheduler sleeps until what was the next one before.
            self.shared.wake.notify_one();
        }
    }

    fn start(&mut self, index: usize, attempt: u32, work: Work) {
        let step = &self.runbook.steps[index];
        let (killer, signal) = kill_pair();
        self.attempts.insert(index, Running { killer, timed_out: false });
        let created = &self.state.created;
        let context = AttemptContext {
            execution: self.id.clone(),
            step: step.id.clone(),
            attempt,
            idempotency_key: format!("{}.{}.{attempt}", self.id, step.id),
            timeout: step.timeout,
            amx: super::amx::variables(&created.trigger),
        };
        let (shared, id, kind) = (Arc::clone(&self.shared), self.id.clone(), step.kind.clone());
        // Those that have ended are let go of.
        while self.tasks.try_join_next().is_some() {}
        self.tasks.spawn(async move {
            let doing = AssertUnwindSafe(perform(&shared, &kind, context, work, signal)).catch_unwind();
            let result = doing.await.unwrap_or_else(|_| {
                let why = "runbookd failed while this ran; it may or may not have happened".to_owned();
                AttemptResult::plain(AttemptOutcome::Unknown, String::new(), Some(why))
            });
            shared.send(&id, Input::Ended { index, attempt, result: Box::new(result) });
        });
    }

    fn ask_if_due(&mut self, now: Timestamp) {
        let Some(verify) = &self.runbook.verify else { return };
        let Condition::Promql { query, expect } = &verify.condition else { return };
        if self.asking || self.next_question.is_some_and(|at| now < at) {
            return;
        }
        if self.interrupting || self.shared.registry().is_draining() {
            return;
        }
        self.asking = true;
        self.next_question = Some(after(now, observe::pause(verify)));
        let question = query.render(&super::view::context_of(&self.runbook, &self.state));
        let (shared, id, expect) = (Arc::clone(&self.shared), self.id.clone(), *expect);
        tokio::spawn(async move {
            let (holds, detail) = match question {
                Ok(question) => observe::ask(&shared, &question, expect).await,
                Err(error) => (false, format!("the query cannot be rendered: {error}")),
            };
            shared.send(&id, Input::Observed { holds, detail });
        });
    }

    /// Waits for the next input; true when the driver may go.
    async fn rest(&mut self) -> bool {
        let bell = self.shared.registry().bell(&self.id);
        let Some(bell) = bell else { return true };
        if self.attempts.is_empty() && !self.asking {
            let mut registry = self.shared.registry();
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

    fn note_attempt(&self, index: usize, outcome: AttemptOutcome) {
        tracing::debug!(
            execution_id = %self.id,
            step = %self.state.created.steps[index].id,
            outcome = outcome.as_str(),
            "attempt ended"
        );
    }
}

/// Does the work of one attempt.
async fn perform(
    shared: &Shared,
    kind: &Kind,
    context: AttemptContext,
    work: Work,
    signal: KillSignal,
) -> AttemptResult {
    match work {
        Work::Call(call) => settle(kind, shared.world.attempt(context, call, signal).await),
        Work::FileExists(path) => judge_check(kind, tokio::fs::symlink_metadata(&path).await.is_ok()),
        Work::Answer(answer) => judge_check(kind, answer),
        Work::Text(text) => AttemptResult::plain(AttemptOutcome::Succeeded, text, None),
    }
}

enum Begin {
    /// Not now: no slot, or the daemon is going.
    Later,
    /// It does not come to an attempt.
    Event(Event),
    /// An attempt with this intent.
    Intend(Event, Work),
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
        lock: created.lock.clone(),
        wake,
        seq: state.seq,
    }
}

fn finished(state: &State, index: usize, attempt: u32, result: AttemptResult) -> Event {
    Event::AttemptFinished { step: state.created.steps[index].id.clone(), attempt, result: Box::new(result) }
}

/// What a finished attempt means for its kind: a check's command answers with its exit code.
fn settle(kind: &Kind, finished: Finished) -> AttemptResult {
    let Finished { mut outcome, exit_code, signal, http_status, stdout, stderr, mut error } = finished;
    let mut answer = None;
    if let Kind::Check { question: Question::Command(_), must } = kind {
        let said_no = outcome == AttemptOutcome::Failed && exit_code.is_some();
        if outcome == AttemptOutcome::Succeeded || said_no {
            answer = Some(outcome == AttemptOutcome::Succeeded);
        }
        if said_no && !must {
            (outcome, error) = (AttemptOutcome::Succeeded, None);
        }
    }
    let (stdout, stderr) = (output(stdout), output(stderr));
    AttemptResult { outcome, exit_code, signal, http_status, stdout, stderr, error, answer }
}

fn judge_check(kind: &Kind, answer: bool) -> AttemptResult {
    let fails = !answer && matches!(kind, Kind::Check { must: true, .. });
    let outcome = if fails { AttemptOutcome::Failed } else { AttemptOutcome::Succeeded };
    let error = fails.then(|| "the check's answer is no, and it must be yes".to_owned());
    AttemptResult { answer: Some(answer), ..AttemptResult::plain(outcome, String::new(), error) }
}

fn output(captured: Captured) -> Output {
    Output {
        bytes: captured.total,
        cut: captured.truncated,
        head: String::from_utf8_lossy(&captured.head).into_owned(),
        file: captured.file,
    }
}
