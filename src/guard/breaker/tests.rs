//! The breaker by hand, and against a model that is as simple as the words of its documentation.

use super::*;
use crate::guard::Profiles;
use proptest::prelude::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

fn profile(failure_threshold: u32, reset_seconds: u64, half_open_successes: u32) -> Profile {
    let reset_timeout = Duration::from_secs(reset_seconds);
    Profile { name: "p".into(), failure_threshold, reset_timeout, half_open_successes }
}

use BreakerState::{Closed, HalfOpen, Open};
use Outcome::{Failure, NotCounted, Success};

/// An admission that must be given, and its outcome.
fn run(breaker: &mut Breaker, profile: &Profile, outcome: Outcome, second: i64) -> Option<Change> {
    assert_eq!(breaker.admit("x", at(second)), Admission::Yes, "{second}");
    breaker.record(profile, "x", outcome, at(second))
}

fn refused(breaker: &mut Breaker, second: i64) -> Option<i64> {
    match breaker.admit("other", at(second)) {
        Admission::Yes => panic!("admitted at {second}: {breaker:?}"),
        Admission::No { retry_at } => retry_at.map(|at| at.as_second() - 1_000_000),
    }
}

#[test]
fn threshold_two_timeout_one_half_open_one() {
    let profile = profile(2, 1, 1);
    let mut breaker = Breaker::default();
    assert_eq!(run(&mut breaker, &profile, Failure, 0), None);
    let opened = Change::Opened { failures: 2, retry_at: at(1) };
    assert_eq!(run(&mut breaker, &profile, Failure, 0), Some(opened));
    assert_eq!(breaker.state(), Open);
    assert_eq!(breaker.admit("x", at(2)), Admission::Yes);
    assert_eq!(breaker.state(), HalfOpen);
    assert_eq!(breaker.record(&profile, "x", Success, at(2)), Some(Change::Closed));
    assert_eq!(breaker.state(), Closed);
    assert!(breaker.is_blank());
}

#[test]
fn the_failures_that_open_it_are_consecutive() {
    let profiles = Profiles::default();
    let profile = profiles.or_default("default");
    let mut breaker = Breaker::default();
    for second in 0..40 {
        let outcome = if second % 5 == 4 { Success } else { Failure };
        assert_eq!(run(&mut breaker, profile, outcome, second), None, "{second}");
    }
    for _ in 0..4 {
        assert_eq!(run(&mut breaker, profile, Failure, 50), None);
        assert_eq!(run(&mut breaker, profile, NotCounted, 50), None);
    }
    assert_eq!((breaker.failures(), breaker.state()), (4, Closed));
    assert!(run(&mut breaker, profile, Failure, 50).is_some());
    assert_eq!(
        (breaker.failures(), breaker.opened_at(), breaker.retry_at()),
        (5, Some(at(50)), Some(at(80)))
    );
}

#[test]
fn one_probe_at_a_time_and_its_holder_may_ask_again() {
    let profile = profile(1, 10, 2);
    let mut breaker = Breaker::default();
    run(&mut breaker, &profile, Failure, 0);
    assert_eq!(refused(&mut breaker, 9), Some(10));
    assert_eq!(breaker.admit("a", at(10)), Admission::Yes);
    assert_eq!(breaker.probe(), Some("a"));
    assert_eq!(refused(&mut breaker, 11), Some(3610));
    // After a crash it asks again.
    assert_eq!(breaker.admit("a", at(12)), Admission::Yes);
    // What belongs to nobody who is waited for counts nothing.
    assert_eq!(breaker.record(&profile, "late", Failure, at(12)), None);
    assert_eq!(breaker.record(&profile, "late", Success, at(12)), None);
    assert_eq!(refused(&mut breaker, 12), Some(3612));
    // Given back without an outcome, the next may try.
    assert_eq!(breaker.record(&profile, "a", NotCounted, at(13)), None);
    assert_eq!((breaker.state(), breaker.probe()), (HalfOpen, None));
    assert_eq!(run(&mut breaker, &profile, Success, 14), None);
    assert_eq!(breaker.state(), HalfOpen);
    assert_eq!(run(&mut breaker, &profile, Success, 15), Some(Change::Closed));
}

#[test]
fn a_probe_that_never_reports_is_overtaken_after_an_hour_and_then_counts_nothing() {
    let profile = profile(1, 10, 1);
    let mut breaker = Breaker::default();
    run(&mut breaker, &profile, Failure, 0);
    assert_eq!(breaker.admit("lost", at(10)), Admission::Yes);
    assert_eq!(refused(&mut breaker, 3609), Some(3610));
    assert_eq!(breaker.admit("next", at(3610)), Admission::Yes);
    assert_eq!(breaker.record(&profile, "lost", Success, at(3611)), None);
    assert_eq!((breaker.state(), breaker.probe()), (HalfOpen, Some("next")));
    assert_eq!(breaker.record(&profile, "next", Success, at(3612)), Some(Change::Closed));
}

#[test]
fn the_wait_doubles_at_each_reopening_up_to_an_hour_and_begins_anew_after_closing() {
    let profile = profile(3, 300, 1);
    let mut breaker = Breaker::default();
    for _ in 0..3 {
        run(&mut breaker, &profile, Failure, 0);
    }
    let mut now = 0;
    for wait in [300, 600, 1200, 2400, 3600, 3600, 3600] {
        assert_eq!(refused(&mut breaker, now + wait - 1), Some(now + wait));
        now += wait;
        assert!(matches!(run(&mut breaker, &profile, Failure, now), Some(Change::Opened { .. })));
    }
    assert_eq!(run(&mut breaker, &profile, Success, now + 3600), Some(Change::Closed));
    for _ in 0..3 {
        run(&mut breaker, &profile, Failure, now);
    }
    assert_eq!(refused(&mut breaker, now), Some(now + 300));
}

#[test]
fn opened_by_a_person_it_stays_open_until_a_person_resets_it() {
    let profile = profile(2, 1, 1);
    let mut breaker = Breaker::default();
    breaker.force_open(at(0));
    assert!(breaker.is_forced());
    for second in [0, 1, 3600, 10_000_000] {
        assert_eq!(refused(&mut breaker, second), None);
        assert_eq!(breaker.record(&profile, "x", Success, at(second)), None);
        assert_eq!(breaker.record(&profile, "x", Failure, at(second)), None);
    }
    assert_eq!((breaker.state(), breaker.retry_at()), (Open, None));
    breaker.reset();
    assert!(breaker.is_blank());
    // Also while a probe is out: its outcome opens nothing and closes nothing.
    run(&mut breaker, &profile, Failure, 20);
    run(&mut breaker, &profile, Failure, 20);
    assert_eq!(breaker.admit("x", at(21)), Admission::Yes);
    breaker.force_open(at(22));
    assert_eq!(breaker.record(&profile, "x", Success, at(23)), None);
    assert!(breaker.is_forced());
}

#[test]
fn a_clock_set_back_makes_nobody_wait_longer() {
    let profile = profile(1, 10, 1);
    let mut breaker = Breaker::default();
    run(&mut breaker, &profile, Failure, 1_000_000);
    assert_eq!(refused(&mut breaker, 0), Some(10));
    assert_eq!(refused(&mut breaker, 5), Some(10));
    assert_eq!(breaker.admit("a", at(10)), Admission::Yes);
    let mut ahead = Breaker::default();
    run(&mut ahead, &profile, Failure, 1_000_000);
    assert_eq!(ahead.admit("a", at(1_000_010)), Admission::Yes);
    assert_eq!(refused(&mut ahead, 0), Some(3600));
    assert_eq!(ahead.admit("b", at(3600)), Admission::Yes);
}

#[test]
fn a_lower_threshold_counts_from_the_next_failure_on() {
    let mut breaker = Breaker::default();
    for _ in 0..4 {
        run(&mut breaker, &profile(20, 10, 1), Failure, 0);
    }
    assert!(run(&mut breaker, &profile(3, 10, 1), Failure, 0).is_some());
}

#[test]
fn only_what_the_runbook_or_its_target_did_is_a_failure() {
    use ExecutionStatus as Status;
    for status in ExecutionStatus::ALL {
        let expected = match status {
            Status::Succeeded => Success,
            Status::Failed | Status::NotVerified | Status::RolledBack | Status::RollbackFailed => Failure,
            _ => NotCounted,
        };
        assert_eq!(Outcome::of_execution(*status, None), expected, "{status}");
        let by_a_person = if *status == Status::RollbackFailed { Failure } else { NotCounted };
        if expected == Failure {
            for reason in [Reason::StepFailed, Reason::Timeout, Reason::UnknownOutcome, Reason::NotVerified] {
                assert_eq!(Outcome::of_execution(*status, Some(reason)), Failure, "{status} {reason}");
            }
            for reason in [Reason::Stopped, Reason::Resolved, Reason::BreakerOpen] {
                assert_eq!(Outcome::of_execution(*status, Some(reason)), by_a_person, "{status} {reason}");
            }
        }
    }
    let counted: Vec<_> = AttemptOutcome::ALL.iter().map(|outcome| Outcome::of_attempt(*outcome)).collect();
    let expected = [Some(Success), Some(Failure), Some(Failure), Some(NotCounted), Some(Failure), None];
    assert_eq!(counted, expected);
}

#[test]
fn what_is_stored_reads_back_equal() {
    let profile = profile(1, 10, 3);
    let mut breaker = Breaker::default();
    let check = |breaker: &Breaker| {
        let text = serde_json::to_string(breaker).unwrap();
        assert_eq!(&serde_json::from_str::<Breaker>(&text).unwrap(), breaker, "{text}");
    };
    check(&breaker);
    run(&mut breaker, &profile, Failure, 0);
    check(&breaker);
    run(&mut breaker, &profile, Success, 10);
    breaker.admit("a", at(11));
    check(&breaker);
    breaker.force_open(at(12));
    check(&breaker);
}

/// The documentation, written down as a machine of its own: whole seconds, no reuse of the code above.
#[derive(Debug)]
struct Model {
    threshold: u32,
    reset: i64,
    successes: u32,
    in_a_row: u32,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Closed,
    Open { until: Option<i64>, reopened: u32 },
    HalfOpen { good: u32, probe: Option<(u8, i64)>, reopened: u32 },
}

impl Model {
    fn wait(&self, reopened: u32) -> i64 {
        (0..reopened).fold(self.reset, |wait, _| (wait * 2).min(3600)).min(3600)
    }

    fn admit(&mut self, holder: u8, now: i64) -> bool {
        match self.phase {
            Phase::Closed => true,
            Phase::Open { until, reopened } => {
                let yes = until.is_some_and(|until| now >= until);
                if yes {
                    self.phase = Phase::HalfOpen { good: 0, probe: Some((holder, now)), reopened };
                }
                yes
            }
            Phase::HalfOpen { good, probe, reopened } => {
                let yes = probe.is_none_or(|(other, since)| other == holder || now >= since + 3600);
                if yes {
                    self.phase = Phase::HalfOpen { good, probe: Some((holder, now)), reopened };
                }
                yes
            }
        }
    }

    fn record(&mut self, holder: u8, outcome: Outcome, now: i64) {
        match (&mut self.phase, outcome) {
            (Phase::Closed, Success) => self.in_a_row = 0,
            (Phase::Closed, Failure) => {
                self.in_a_row += 1;
                if self.in_a_row >= self.threshold {
                    self.phase = Phase::Open { until: Some(now + self.wait(0)), reopened: 0 };
                }
            }
            (Phase::HalfOpen { good, probe, reopened }, outcome)
                if probe.is_some_and(|(waited_for, _)| waited_for == holder) =>
            {
                *probe = None;
                match outcome {
                    Success => {
                        *good += 1;
                        self.in_a_row = 0;
                        if *good == self.successes {
                            self.phase = Phase::Closed;
                        }
                    }
                    Failure => {
                        let reopened = *reopened + 1;
                        self.in_a_row += 1;
                        self.phase = Phase::Open { until: Some(now + self.wait(reopened)), reopened };
                    }
                    NotCounted => {}
                }
            }
            _ => {}
        }
    }
}

#[derive(Debug, Clone)]
enum Op {
    Admit(u8),
    Record(u8, Outcome),
    Later(i64),
    Force,
    Reset,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let outcome = prop_oneof![3 => Just(Failure), 2 => Just(Success), 1 => Just(NotCounted)];
    let op = prop_oneof![
        8 => (0..3_u8).prop_map(Op::Admit),
        8 => (0..3_u8, outcome).prop_map(|(holder, outcome)| Op::Record(holder, outcome)),
        6 => prop_oneof![0..40_i64, 0..5000_i64].prop_map(Op::Later),
        1 => Just(Op::Force),
        1 => Just(Op::Reset),
    ];
    prop::collection::vec(op, 0..200)
}

proptest! {
    #[test]
    fn it_does_what_the_model_does(
        threshold in 1..5_u32, reset in 1..2000_u64, successes in 1..4_u32, ops in ops()
    ) {
        let profile = profile(threshold, reset, successes);
        let mut breaker = Breaker::default();
        let reset = i64::try_from(reset).unwrap();
        let mut model = Model { threshold, reset, successes, in_a_row: 0, phase: Phase::Closed };
        let mut now = 0;
        for op in ops {
            match op {
                Op::Admit(holder) => {
                    let asked = breaker.would_admit(&holder.to_string(), at(now));
                    let admission = breaker.admit(&holder.to_string(), at(now));
                    prop_assert_eq!(asked, admission);
                    prop_assert_eq!(admission == Admission::Yes, model.admit(holder, now), "{:?}", model);
                    if let Admission::No { retry_at: Some(retry_at) } = admission {
                        prop_assert!(retry_at > at(now) && retry_at <= at(now + 3600));
                    }
                }
                Op::Record(holder, outcome) => {
                    breaker.record(&profile, &holder.to_string(), outcome, at(now));
                    model.record(holder, outcome, now);
                }
                Op::Later(seconds) => now += seconds,
                Op::Force => {
                    breaker.force_open(at(now));
                    model.phase = Phase::Open { until: None, reopened: 0 };
                }
                Op::Reset => {
                    breaker.reset();
                    (model.phase, model.in_a_row) = (Phase::Closed, 0);
                }
            }
            let (state, retry_at, probe) = match &model.phase {
                Phase::Closed => (Closed, None, None),
                Phase::Open { until, .. } => (Open, until.map(at), None),
                Phase::HalfOpen { probe, .. } => (HalfOpen, None, probe.map(|(holder, _)| holder.to_string())),
            };
            prop_assert_eq!(breaker.state(), state);
            prop_assert_eq!(breaker.retry_at(), retry_at);
            prop_assert_eq!(breaker.probe(), probe.as_deref());
            prop_assert_eq!(breaker.failures(), model.in_a_row);
            prop_assert!(state != Closed || breaker.failures() < threshold);
        }
    }
}
