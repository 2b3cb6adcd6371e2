//! The machine against every order of events a driver, a clock, a crash and people can make.

use super::*;
use crate::journal::{
    AttemptResult, Created, Entry, IllegalEvent, Skip, StepHead, Trigger, TriggerKind, decode, encode,
};
use crate::model::{AttemptOutcome, Effect};
use crate::model::{ExecutionId, Labels, RunbookId, Target};
use crate::runbook::{self, Kind};
use std::collections::BTreeMap;
use std::time::Duration;

mod any_order;
mod scenarios;
mod switch;
mod verbs;

/// A runbook, an execution of it, and a clock.
struct Bench {
    runbook: Runbook,
    state: State,
    journal: Vec<Entry>,
    now: Timestamp,
    /// The kill switch is at `halted`: nothing begins.
    halted: bool,
}

impl Bench {
    fn new(text: &str) -> Self {
        let id = RunbookId::new("r").unwrap();
        let parsed = runbook::parse(&id, "r.toml", text);
        let runbook = parsed.runbook.unwrap_or_else(|| panic!("{:?}\n{text}", parsed.problems));
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let steps = runbook.steps.iter().map(|step| StepHead {
            id: step.id.clone(),
            title: step.title.clone(),
            kind: step.kind.as_str().to_owned(),
            effect: step.effect,
        });
        let created = Box::new(Created {
            id: ExecutionId::new("r_01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap(),
            runbook: id,
            version: 1,
            hash: String::new(),
            title: String::new(),
            trigger: Trigger {
                kind: TriggerKind::Alert,
                alertname: Some("A".into()),
                fingerprint: None,
                starts_at: None,
                generator_url: String::new(),
                external_url: String::new(),
                labels: Labels::new(),
                annotations: Labels::new(),
                by: "alert:A".into(),
                reason: None,
                of: None,
            },
            target: Target::new("t").ok(),
            lock: Some("t".into()),
            inputs: BTreeMap::new(),
            steps: steps.collect(),
            range: None,
            timeout_ms: u64::try_from(runbook.timeout.as_millis()).unwrap(),
            queue_deadline: after(now, Duration::from_secs(600)),
            seed: 0,
            parent: None,
            inherited: Vec::new(),
            decision: None,
            instance: "i".into(),
        });
        let journal = vec![Entry { seq: 1, at: now, event: Event::Created(created.clone()) }];
        Self { runbook, state: State::new(created, now), journal, now, halted: false }
    }

    fn record(&mut self, event: Event) -> Result<(), IllegalEvent> {
        let entry = Entry { seq: self.state.seq + 1, at: self.now, event };
        self.state.apply(&entry)?;
        self.journal.push(entry);
        Ok(())
    }

    /// Records what the machine says until it waits for the world; what it says must always fit.
    fn settle(&mut self) -> Next {
        for _ in 0..1000 {
            match next(&self.runbook, &self.state, self.now) {
                Next::Record(event) => self.record(event).expect("the machine contradicts its own state"),
                Next::Begin { .. } if self.halted => self.record(halt()).unwrap(),
                Next::Begin { index, part, attempt } => {
                    let step = &self.runbook.steps[index];
                    let deadline = after(self.now, step.timeout);
                    let total = step.total_timeout.map(|total| after(self.now, total));
                    let (step, plan) = (step.id.clone(), String::new());
                    let (breaker, child) = (None, None);
                    self.record(Event::StepIntended {
                        step,
                        part,
                        attempt,
                        deadline,
                        total,
                        plan,
                        breaker,
                        child,
                    })
                    .unwrap();
                }
                Next::Retry { index, part, attempt, at } => {
                    let step = self.runbook.steps[index].id.clone();
                    self.record(Event::RetryScheduled { step, part, attempt, at }).unwrap();
                }
                Next::Ask { index } => {
                    let Kind::Approve(terms) = &self.runbook.steps[index].kind else {
                        panic!("no approve step")
                    };
                    let until = after(self.now, terms.approval.expires);
                    let (step, hash) = (self.runbook.steps[index].id.clone(), self.state.seq.to_string());
                    self.record(Event::ApprovalRequested { step, plan: String::new(), hash, until }).unwrap();
                }
                other => return other,
            }
        }
        panic!("the machine never comes to rest: {:?}", self.state);
    }

    fn start(&mut self) {
        let deadline = after(self.now, Duration::from_millis(self.state.created.timeout_ms));
        self.record(Event::Started { deadline }).unwrap();
        self.settle();
    }

    fn end_attempt(&mut self, outcome: AttemptOutcome) {
        let Some((index, open)) = self
            .state
            .steps
            .iter()
            .enumerate()
            .find_map(|(index, step)| Some((index, step.open.first()?.clone())))
        else {
            return;
        };
        let event = Event::AttemptFinished {
            step: self.state.created.steps[index].id.clone(),
            part: open.part,
            attempt: open.attempt,
            result: Box::new(AttemptResult::plain(outcome, String::new(), None)),
        };
        self.record(event).unwrap();
        self.settle();
    }

    fn advance(&mut self, seconds: u64) {
        self.now = after(self.now, Duration::from_secs(seconds));
        self.settle();
    }

    fn crash(&mut self) {
        // Nothing but the journal survives.
        self.state = State::replay(self.journal.clone()).unwrap();
        for event in resume(&self.runbook, &self.state) {
            self.record(event).unwrap();
        }
        self.settle();
    }

    fn statuses(&self) -> Vec<&'static str> {
        self.state.steps.iter().map(|step| step.status.as_str()).collect()
    }

    fn check_end(&self, status: ExecutionStatus, reason: Option<Reason>, steps: &[&str]) {
        assert_eq!((self.state.status, self.state.reason), (status, reason));
        assert_eq!(self.statuses(), steps);
    }
}

fn halt() -> Event {
    let (actor, reason) = (Some("ann".to_owned()), "global is halted".to_owned());
    Event::Paused { actor, reason, code: Some(Reason::Halted) }
}

impl Bench {
    /// What the driver does when the kill switch is thrown or taken back.
    fn switch(&mut self, halted: bool) {
        self.halted = halted;
        let holds = self.state.pause.as_ref().is_some_and(|pause| pause.code == Some(Reason::Halted));
        if !halted && holds {
            self.record(Event::Resumed { actor: "runbookd".into(), reason: String::new() }).unwrap();
        }
        self.settle();
    }

    fn abort(&mut self) {
        if self.state.aborted.is_none() {
            self.record(Event::Aborted { actor: "ann".into(), reason: "enough".into() }).unwrap();
        }
        self.settle();
    }
}

const TWO_STEPS: &str = r#"
mode = "auto"
target = "t"
timeout = "10m"
[[steps]]
id = "a"
command = { program = "true" }
effect = "idempotent"
[[steps]]
id = "b"
command = { program = "true" }
"#;

#[test]
fn steps_succeed_one_after_the_other() {
    let mut bench = Bench::new(TWO_STEPS);
    bench.start();
    assert_eq!(bench.statuses(), ["running", "pending"]);
    bench.end_attempt(AttemptOutcome::Succeeded);
    assert_eq!(bench.statuses(), ["succeeded", "running"]);
    bench.end_attempt(AttemptOutcome::Succeeded);
    bench.check_end(ExecutionStatus::Succeeded, None, &["succeeded", "succeeded"]);
}

#[test]
fn a_failed_step_fails_the_execution_and_the_rest_is_skipped() {
    let mut bench = Bench::new(TWO_STEPS);
    bench.start();
    bench.end_attempt(AttemptOutcome::TimedOut);
    bench.check_end(ExecutionStatus::Failed, Some(Reason::StepFailed), &["timed_out", "skipped"]);
}

#[test]
fn a_continued_failure_does_not_fail_the_execution_and_when_sees_it() {
    let mut bench = Bench::new(
        r#"
mode = "auto"
target = "t"
[[steps]]
id = "probe"
command = { program = "false" }
on_failure = "continue"
[[steps]]
id = "cure"
when = "not steps.probe.ok"
command = { program = "true" }
[[steps]]
id = "boast"
when = "steps.probe.ok"
command = { program = "true" }
"#,
    );
    bench.start();
    bench.end_attempt(AttemptOutcome::Failed);
    assert_eq!(bench.statuses(), ["failed", "running", "pending"]);
    bench.end_attempt(AttemptOutcome::Succeeded);
    bench.check_end(ExecutionStatus::Succeeded, None, &["failed", "succeeded", "skipped"]);
}

#[test]
fn a_crash_reruns_an_idempotent_step_with_the_same_number() {
    let mut bench = Bench::new(TWO_STEPS);
    bench.start();
    bench.crash();
    assert_eq!(bench.state.steps[0].open[0].attempt, 1);
    assert_eq!(bench.state.steps[0].last().unwrap().result.outcome, AttemptOutcome::Interrupted);
    bench.end_attempt(AttemptOutcome::Succeeded);
    assert_eq!(bench.statuses(), ["succeeded", "running"]);
}

#[test]
fn a_crash_inside_an_at_most_once_step_runs_nothing_again() {
    let mut bench = Bench::new(TWO_STEPS);
    bench.start();
    bench.end_attempt(AttemptOutcome::Succeeded);
    bench.crash();
    bench.check_end(ExecutionStatus::Failed, Some(Reason::UnknownOutcome), &["succeeded", "unknown"]);
}

#[test]
fn a_stop_waits_for_the_kill_and_skips_the_rest() {
    let mut bench = Bench::new(TWO_STEPS);
    bench.start();
    let stop = Event::StopRequested { actor: "me".into(), reason: "enough".into(), rollback: false };
    assert_eq!(consequence(&bench.runbook, &bench.state, &stop), Some(Consequence::KillStopped));
    bench.record(stop).unwrap();
    assert_eq!(bench.settle(), Next::Idle { wake: None });
    bench.end_attempt(AttemptOutcome::Stopped);
    bench.check_end(ExecutionStatus::Stopped, Some(Reason::Stopped), &["stopped", "skipped"]);
}

#[test]
fn resolved_while_queued_expires_and_resolved_while_running_skips_what_changes() {
    let mut queued = Bench::new(TWO_STEPS);
    queued.record(Event::AlertResolved).unwrap();
    queued.settle();
    assert_eq!(
        (queued.state.status, queued.state.reason),
        (ExecutionStatus::Expired, Some(Reason::Resolved))
    );

    let mut running = Bench::new(TWO_STEPS);
    running.start();
    running.record(Event::AlertResolved).unwrap();
    running.end_attempt(AttemptOutcome::Succeeded);
    running.check_end(ExecutionStatus::Succeeded, None, &["succeeded", "skipped"]);
    assert_eq!(running.state.steps[1].skip, Some(Skip::Resolved));
}

#[test]
fn the_whole_timeout_ends_the_step_in_progress_as_timed_out() {
    let mut bench = Bench::new(TWO_STEPS);
    bench.start();
    bench.advance(600);
    assert!(bench.state.deadline_passed);
    assert_eq!(
        consequence(&bench.runbook, &bench.state, &Event::DeadlinePassed),
        Some(Consequence::KillTimedOut)
    );
    bench.end_attempt(AttemptOutcome::TimedOut);
    bench.check_end(ExecutionStatus::Failed, Some(Reason::Timeout), &["timed_out", "skipped"]);
}

#[test]
fn a_timer_is_absolute_and_a_crash_inside_it_loses_no_time() {
    let mut bench = Bench::new("mode = \"auto\"\n[[steps]]\nid = \"w\"\nwait = { for = \"60s\" }\n");
    bench.start();
    let until = bench.state.steps[0].until.unwrap();
    bench.advance(40);
    bench.crash();
    assert_eq!(bench.state.steps[0].until, Some(until));
    bench.advance(19);
    assert_eq!(bench.statuses(), ["waiting"]);
    bench.advance(1);
    bench.check_end(ExecutionStatus::Succeeded, None, &["succeeded"]);
}

const VERIFIED: &str = r#"
mode = "auto"
target = "t"
[[steps]]
id = "a"
command = { program = "true" }
[verify]
promql = "up"
expect = "== 1"
within = "2m"
hold = "30s"
"#;

#[test]
fn a_verify_must_hold_without_a_break() {
    let observed = |holds| Event::VerifyObserved { holds, detail: String::new() };
    let mut bench = Bench::new(VERIFIED);
    bench.start();
    bench.end_attempt(AttemptOutcome::Succeeded);
    assert_eq!(bench.state.status, ExecutionStatus::Verifying);
    bench.record(observed(true)).unwrap();
    bench.advance(29);
    bench.record(observed(false)).unwrap();
    bench.record(observed(true)).unwrap();
    bench.advance(29);
    assert_eq!(bench.state.status, ExecutionStatus::Verifying);
    bench.advance(1);
    bench.check_end(ExecutionStatus::Succeeded, None, &["succeeded"]);
}

#[test]
fn a_verify_that_holds_too_late_is_not_verified() {
    let mut bench = Bench::new(VERIFIED);
    bench.start();
    bench.end_attempt(AttemptOutcome::Succeeded);
    bench.advance(100);
    bench.record(Event::VerifyObserved { holds: true, detail: String::new() }).unwrap();
    bench.advance(25);
    bench.check_end(ExecutionStatus::NotVerified, Some(Reason::NotVerified), &["succeeded"]);
}

#[test]
fn an_alert_that_resolves_proves_a_verify_by_alert_resolved() {
    let text = VERIFIED.replace("promql = \"up\"\nexpect = \"== 1\"", "alert_resolved = true");
    let mut bench = Bench::new(&text);
    bench.start();
    bench.end_attempt(AttemptOutcome::Succeeded);
    bench.advance(10);
    bench.record(Event::AlertResolved).unwrap();
    assert_eq!(bench.settle(), Next::Idle { wake: Some(after(bench.now, Duration::from_secs(30))) });
    bench.advance(30);
    bench.check_end(ExecutionStatus::Succeeded, None, &["succeeded"]);
}
