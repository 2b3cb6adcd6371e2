//! The kill switch: what it holds, what it ends.

use super::*;
use crate::engine::verb::{Actor, Answer, Ask, Verb, answer};

const RUNBOOK: &str = r#"
mode = "auto"
target = "t"
timeout = "10m"
[[steps]]
id = "a"
command = { program = "true" }
[steps.undo]
command = { program = "true" }
[[steps]]
id = "w"
wait = { for = "60s" }
[[steps]]
id = "b"
command = { program = "true" }
on_failure = "rollback"
[[steps]]
id = "f"
command = { program = "true" }
finally = true
"#;

fn started() -> Bench {
    let mut bench = Bench::new(RUNBOOK);
    bench.start();
    bench
}

/// With the undo of `a` in progress.
fn rolling_back() -> Bench {
    let mut bench = started();
    bench.end_attempt(AttemptOutcome::Succeeded);
    bench.advance(60);
    bench.end_attempt(AttemptOutcome::Failed);
    assert_eq!(bench.state.status, ExecutionStatus::RollingBack);
    bench
}

fn says(bench: &Bench, verb: Verb) -> Answer {
    let ask = Ask::new(verb, Actor { subject: "ann".into(), ..Actor::default() }, "because");
    answer(&bench.runbook, &bench.state, bench.now, &ask)
}

#[test]
fn halted_the_step_in_progress_ends_and_the_next_begins_when_it_is_running_again() {
    let mut bench = started();
    bench.switch(true);
    assert_eq!(bench.state.status, ExecutionStatus::Running, "what is in progress goes on");
    bench.end_attempt(AttemptOutcome::Succeeded);
    // A wait is no work; what comes after it is.
    assert_eq!(bench.statuses(), ["succeeded", "waiting", "pending", "pending"]);
    bench.advance(60);
    assert_eq!(bench.state.status, ExecutionStatus::Paused);
    assert!(matches!(says(&bench, Verb::Resume), Answer::Conflict(_)), "no person goes past the switch");
    let deadline = bench.state.deadline.unwrap();
    bench.advance(3600);
    bench.crash();
    assert_eq!(bench.state.status, ExecutionStatus::Paused);
    bench.switch(false);
    assert_eq!(bench.statuses(), ["succeeded", "succeeded", "running", "pending"]);
    assert_eq!(bench.state.deadline, Some(after(deadline, Duration::from_secs(3600))), "no time has passed");
}

#[test]
fn halted_before_the_undo_begins_nothing_is_undone_until_it_is_running_again() {
    let mut bench = started();
    bench.end_attempt(AttemptOutcome::Succeeded);
    bench.advance(60);
    bench.switch(true);
    bench.end_attempt(AttemptOutcome::Failed);
    assert_eq!(bench.state.status, ExecutionStatus::Paused);
    assert!(bench.state.ending.is_some());
    for verb in Verb::ALL {
        assert!(matches!(says(&bench, verb), Answer::Conflict(_)), "{verb:?}");
    }
    bench.crash();
    bench.switch(false);
    assert_eq!(bench.state.status, ExecutionStatus::RollingBack);
    bench.switch(true);
    bench.end_attempt(AttemptOutcome::Succeeded);
    assert_eq!(bench.state.status, ExecutionStatus::Paused, "before the last step");
    bench.switch(false);
    bench.end_attempt(AttemptOutcome::Succeeded);
    bench.check_end(
        ExecutionStatus::RolledBack,
        Some(Reason::StepFailed),
        &["succeeded", "succeeded", "failed", "succeeded"],
    );
}

#[test]
fn aborted_everything_ends_and_nothing_more_begins() {
    let mut bench = started();
    let event = Event::Aborted { actor: "ann".into(), reason: "enough".into() };
    assert_eq!(consequence(&bench.runbook, &bench.state, &event), Some(Consequence::KillAll));
    bench.abort();
    bench.end_attempt(AttemptOutcome::Stopped);
    bench.check_end(
        ExecutionStatus::Stopped,
        Some(Reason::Aborted),
        &["stopped", "skipped", "skipped", "skipped"],
    );
}

#[test]
fn aborted_in_the_queue_it_never_begins() {
    let mut bench = Bench::new(RUNBOOK);
    bench.abort();
    assert_eq!((bench.state.status, bench.state.reason), (ExecutionStatus::Stopped, Some(Reason::Aborted)));
}

#[test]
fn aborted_while_held_it_ends() {
    let mut bench = started();
    bench.switch(true);
    bench.end_attempt(AttemptOutcome::Succeeded);
    bench.advance(60);
    bench.abort();
    assert_eq!((bench.state.status, bench.state.reason), (ExecutionStatus::Stopped, Some(Reason::Aborted)));
}

#[test]
fn an_aborted_rollback_has_failed() {
    let mut bench = rolling_back();
    bench.abort();
    assert_eq!(bench.state.status, ExecutionStatus::RollingBack, "the undo is being killed");
    bench.end_attempt(AttemptOutcome::Stopped);
    assert_eq!(
        (bench.state.status, bench.state.reason),
        (ExecutionStatus::RollbackFailed, Some(Reason::Aborted))
    );
}
