//! Whether a failed attempt is followed by another, and when; and how many retries a dependency bears.
//!
//! Pure: the time comes in, the jitter comes from the execution's seed, so a replay decides the same. The
//! growth of the pauses is the `backoff` crate's, and this is its only place.
//! May import: `model`, `runbook`, `journal`. Must never: read a clock or draw a random number of its own.

use crate::journal::AttemptResult;
use crate::model::{AttemptOutcome, Part, Timestamp, after, between};
use crate::runbook::{Retry, RetryOn};
use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;
use std::collections::BTreeMap;
use std::time::Duration;

/// What is asked after a failed attempt.
pub(super) struct Asked<'a> {
    /// The step's or the undo's policy.
    pub(super) policy: Retry,
    /// How many attempts have ended so far.
    pub(super) tried: u32,
    /// How the last one ended.
    pub(super) result: &'a AttemptResult,
    /// Now.
    pub(super) now: Timestamp,
    /// No attempt begins at or after this.
    pub(super) limit: Option<Timestamp>,
    /// Where the jitter comes from.
    pub(super) seed: u64,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Again {
    /// Then.
    At(Timestamp),
    /// Never, and why where it is not plain.
    No(Option<String>),
}

/// Whether another attempt is worth making.
pub(super) fn decide(asked: &Asked<'_>) -> Again {
    let Asked { policy, tried, result, now, limit, seed } = asked;
    if *tried >= policy.attempts || !is_worth(policy, result) {
        return Again::No(None);
    }
    let pause = jitter(cap(policy, *tried), *seed);
    let wished = result.retry_after_ms.map(Duration::from_millis);
    // The far side knows better than our curve when it can be asked again.
    let pause = wished.map_or(pause, |wished| wished.max(pause));
    let at = after(*now, pause);
    match limit {
        Some(limit) if at >= *limit => {
            let whose = if wished.is_some_and(|wished| wished == pause) {
                "the far side asks for"
            } else {
                "it would take"
            };
            let pause = humantime::format_duration(Duration::from_millis(millis(pause)));
            Again::No(Some(format!("not tried again: {whose} a pause of {pause}, and the time is up before")))
        }
        _ => Again::At(at),
    }
}

/// The longest pause after `tried` attempts.
fn cap(policy: &Retry, tried: u32) -> Duration {
    let mut curve = ExponentialBackoff {
        current_interval: policy.initial,
        initial_interval: policy.initial,
        // The jitter is ours, because a replay must come to the same time.
        randomization_factor: 0.0,
        multiplier: policy.factor,
        max_interval: policy.max,
        max_elapsed_time: None,
        ..ExponentialBackoff::default()
    };
    let mut pause = policy.initial.min(policy.max);
    for _ in 0..tried.clamp(1, 64) {
        pause = curve.next_backoff().unwrap_or(policy.max).min(policy.max);
    }
    pause
}

/// Full jitter: anything from nothing to `cap`, so that many that failed together do not return together.
fn jitter(cap: Duration, seed: u64) -> Duration {
    let span = millis(cap).saturating_add(1);
    Duration::from_millis(seed % span)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn is_worth(policy: &Retry, result: &AttemptResult) -> bool {
    let timed_out = result.outcome == AttemptOutcome::TimedOut;
    if !timed_out && result.outcome != AttemptOutcome::Failed {
        return false;
    }
    policy.retry_on.is_empty()
        || policy.retry_on.iter().any(|on| match on {
            RetryOn::Timeout => timed_out,
            RetryOn::Exit(code) => !timed_out && result.exit_code == Some(*code),
            RetryOn::Status(low, high) => {
                !timed_out && result.http_status.is_some_and(|status| (*low..=*high).contains(&status))
            }
            RetryOn::Connect => !timed_out && result.exit_code.is_none() && result.http_status.is_none(),
        })
}

/// The randomness of one decision, out of the execution's own seed.
pub(super) fn seed(execution: u64, index: usize, part: Part, attempt: u32) -> u64 {
    let role = part.role as u64;
    let item = part.item.map_or(0, |item| u64::from(item) + 1);
    [index as u64, role, item, u64::from(attempt)].into_iter().fold(execution, |seed, word| mix(seed ^ word))
}

/// The finaliser of splitmix64.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A first attempt earns its dependency this much of a retry.
const EARNED: f64 = 0.2;
/// Retries a dependency has to begin with, and never more than.
const PURSE: f64 = 10.0;
/// One more retry comes back after so long, so that a quiet dependency is not held to its past.
const REFILL: Duration = Duration::from_secs(6);
/// Dependencies remembered; beyond it those that have all their retries are forgotten first.
const REMEMBERED: usize = 1024;

/// How many retries each dependency bears, so that a storm of failures does not become a storm of retries:
/// over time at most one retry for five first attempts, and ten a minute.
#[derive(Debug, Default)]
pub(super) struct Budgets(BTreeMap<String, Purse>);

#[derive(Debug, Clone, Copy)]
struct Purse {
    left: f64,
    at: Timestamp,
}

impl Purse {
    fn refill(&mut self, now: Timestamp) {
        let earned = between(self.at, now).as_secs_f64() / REFILL.as_secs_f64();
        self.left = (self.left + earned).min(PURSE);
        self.at = self.at.max(now);
    }
}

impl Budgets {
    /// A first attempt at `dependency`.
    pub(super) fn first(&mut self, dependency: &str, now: Timestamp) {
        if let Some(purse) = self.0.get_mut(dependency) {
            purse.refill(now);
            purse.left = (purse.left + EARNED).min(PURSE);
        }
    }

    /// Whether `dependency` bears one more retry now.
    pub(super) fn take(&mut self, dependency: &str, now: Timestamp) -> bool {
        if !self.0.contains_key(dependency) && self.0.len() >= REMEMBERED {
            self.forget(now);
        }
        let purse = self.0.entry(dependency.to_owned()).or_insert(Purse { left: PURSE, at: now });
        purse.refill(now);
        let enough = purse.left >= 1.0;
        if enough {
            purse.left -= 1.0;
        }
        enough
    }

    fn forget(&mut self, now: Timestamp) {
        self.0.retain(|_, purse| {
            purse.refill(now);
            purse.left < PURSE
        });
        if self.0.len() >= REMEMBERED {
            self.0.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn policy(attempts: u32) -> Retry {
        Retry { attempts, max: Duration::from_secs(10), ..Retry::default() }
    }

    fn failed() -> AttemptResult {
        AttemptResult::plain(AttemptOutcome::Failed, String::new(), None)
    }

    fn ask(policy: Retry, result: &AttemptResult, tried: u32, limit: Option<Timestamp>) -> Again {
        decide(&Asked { policy, tried, result, now: now(), limit, seed: u64::MAX })
    }

    #[test]
    fn the_longest_pause_doubles_up_to_its_cap() {
        let caps: Vec<u128> = (1..8).map(|tried| cap(&policy(9), tried).as_millis()).collect();
        assert_eq!(caps, [500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
    }

    #[test]
    fn only_what_the_policy_names_is_tried_again() {
        let on = |retry_on| Retry { retry_on, ..policy(3) };
        let exit = AttemptResult { exit_code: Some(75), ..failed() };
        let busy = AttemptResult { http_status: Some(503), ..failed() };
        let late = AttemptResult { outcome: AttemptOutcome::TimedOut, ..failed() };
        let cases = [
            (vec![], &exit, true),
            (vec![RetryOn::Exit(75)], &exit, true),
            (vec![RetryOn::Exit(1)], &exit, false),
            (vec![RetryOn::Status(500, 599)], &busy, true),
            (vec![RetryOn::Status(429, 429)], &busy, false),
            (vec![RetryOn::Timeout], &late, true),
            (vec![RetryOn::Timeout], &exit, false),
            (vec![RetryOn::Connect], &busy, false),
            (vec![RetryOn::Connect], &failed(), true),
        ];
        for (retry_on, result, expected) in cases {
            let again = matches!(ask(on(retry_on.clone()), result, 1, None), Again::At(_));
            assert_eq!(again, expected, "{retry_on:?} {result:?}");
        }
    }

    #[test]
    fn retry_after_is_honoured_up_to_the_deadline() {
        let result = AttemptResult { retry_after_ms: Some(7000), http_status: Some(503), ..failed() };
        let in_seconds = |seconds| Some(after(now(), Duration::from_secs(seconds)));
        assert_eq!(
            ask(policy(3), &result, 1, in_seconds(60)),
            Again::At(after(now(), Duration::from_secs(7)))
        );
        let Again::No(Some(why)) = ask(policy(3), &result, 1, in_seconds(5)) else { panic!("it fits") };
        assert!(why.contains("the far side asks for a pause of 7s"), "{why}");
    }

    #[test]
    fn what_is_unknown_or_stopped_is_never_tried_again() {
        for outcome in [AttemptOutcome::Unknown, AttemptOutcome::Stopped, AttemptOutcome::Succeeded] {
            let result = AttemptResult { outcome, ..failed() };
            assert_eq!(ask(policy(3), &result, 1, None), Again::No(None));
        }
    }

    proptest! {
        #[test]
        fn a_pause_is_never_longer_than_its_cap(seed: u64, tried in 1..50_u32, attempt: u32) {
            let cap = cap(&policy(99), tried);
            prop_assert!(jitter(cap, super::seed(seed, 0, Part::MAIN, attempt)) <= cap);
        }

        #[test]
        fn a_storm_of_failures_is_no_storm_of_retries(pauses in prop::collection::vec(0..2000_u64, 1..400)) {
            let (mut budgets, mut at, mut taken) = (Budgets::default(), now(), 0_u32);
            for pause in &pauses {
                at = after(at, Duration::from_millis(*pause));
                budgets.first("db", at);
                taken += u32::from(budgets.take("db", at));
            }
            let minutes = between(now(), at).as_secs_f64() / 60.0;
            let most = PURSE + minutes * 10.0 + EARNED * pauses.len() as f64;
            prop_assert!(f64::from(taken) <= most + 1e-6, "{taken} of {most}");
        }
    }
}
