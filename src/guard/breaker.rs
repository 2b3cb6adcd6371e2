//! The circuit breaker: closed, open, half-open, and what leads from one to the other.
//!
//! Time enters as `now`, the profile with each question, so that a changed config counts at once. A clock that was set
//! back never makes anybody wait longer than the wait itself: a time in the future is taken for now.

use super::Profile;
use crate::model::{AttemptOutcome, ExecutionStatus, Reason, Timestamp, after};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The longest a breaker stays open by itself.
pub const MAX_WAIT: Duration = Duration::from_secs(3600);

/// How long a probe may take before another may try.
///
/// A holder always reports: an execution ends, also after a crash, and its end is recorded in the same commit. This
/// is for the one that cannot, because it was lost with a restored backup, or is held by a person for days. An hour is
/// longer than a queue's deadline and a runbook's timeout together are by default, so a probe that is alive is rarely
/// overtaken; and it is the longest wait of an open breaker too, so that nobody waits longer than that for a lost one.
const PROBE_LEASE: Duration = MAX_WAIT;

/// Whether something may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It may; a half-open breaker now waits for its outcome.
    Yes,
    /// It may not.
    No {
        /// When asking again may help; `None` where only a person can help.
        retry_at: Option<Timestamp>,
    },
}

/// How what was admitted ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It helped.
    Success,
    /// Failed, timed out, not verified, rolled back, or unknown.
    Failure,
    /// It says nothing: a person's stop, a resolved alert, a gate's denial. Only gives the probe back.
    NotCounted,
}

impl Outcome {
    /// What the end of an execution says to the breaker of its runbook and target.
    pub fn of_execution(status: ExecutionStatus, reason: Option<Reason>) -> Self {
        use ExecutionStatus as Status;
        // Why it turned round, whatever that came to: nothing that the runbook or the target did.
        let is_outside = matches!(
            reason,
            Some(
                Reason::Stopped
                    | Reason::Resolved
                    | Reason::BreakerOpen
                    | Reason::Quarantined
                    | Reason::Unreadable
            )
        );
        match status {
            Status::Succeeded => Self::Success,
            // Not even the way back was found: that is a failure, whoever asked for it.
            Status::RollbackFailed => Self::Failure,
            Status::Failed | Status::NotVerified | Status::RolledBack if !is_outside => Self::Failure,
            _ => Self::NotCounted,
        }
    }

    /// What the end of an attempt says to the breaker its step names; `None` for one that was interrupted, because it
    /// runs again and is still waited for.
    pub fn of_attempt(outcome: AttemptOutcome) -> Option<Self> {
        Some(match outcome {
            AttemptOutcome::Succeeded => Self::Success,
            AttemptOutcome::Failed | AttemptOutcome::TimedOut | AttemptOutcome::Unknown => Self::Failure,
            AttemptOutcome::Stopped => Self::NotCounted,
            AttemptOutcome::Interrupted => return None,
        })
    }
}

/// A change of state worth telling people about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It opened, or opened again.
    Opened {
        /// Failures in a row.
        failures: u32,
        /// When it will let one try.
        retry_at: Timestamp,
    },
    /// It closed.
    Closed,
}

/// Where a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Everything may start.
    Closed,
    /// Nothing may.
    Open,
    /// One at a time may.
    HalfOpen,
}

impl BreakerState {
    /// The word in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

impl std::str::FromStr for BreakerState {
    type Err = &'static str;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        [Self::Closed, Self::Open, Self::HalfOpen]
            .into_iter()
            .find(|state| state.as_str() == word)
            .ok_or("must be one of: closed, open, half_open")
    }
}

/// One circuit breaker.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breaker {
    /// Failures since the last success.
    failures: u32,
    /// Absent while it is closed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    tripped: Option<Tripped>,
}

/// A breaker that is not closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Tripped {
    /// When it opened last.
    opened_at: Timestamp,
    /// How long it stays open from then on; `None` where a person opened it.
    wait_ms: Option<u64>,
    /// Present once it is half-open.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    trial: Option<Trial>,
}

/// What a half-open breaker knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Trial {
    successes: u32,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    probe: Option<Probe>,
}

/// The one that was let through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Probe {
    holder: String,
    since: Timestamp,
}

impl Tripped {
    fn new(now: Timestamp, wait: Option<Duration>) -> Self {
        let wait_ms = wait.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        Self { opened_at: now, wait_ms, trial: None }
    }

    fn wait(&self) -> Option<Duration> {
        self.wait_ms.map(Duration::from_millis)
    }

    fn retry_at(&self) -> Option<Timestamp> {
        Some(after(self.opened_at, self.wait()?))
    }
}

impl Breaker {
    /// Whether it holds nothing worth keeping: closed, without a failure.
    pub fn is_blank(&self) -> bool {
        *self == Self::default()
    }

    /// Where it stands. An open one stays open until somebody asks after its wait is over.
    pub fn state(&self) -> BreakerState {
        match &self.tripped {
            None => BreakerState::Closed,
            Some(Tripped { trial: None, .. }) => BreakerState::Open,
            Some(Tripped { trial: Some(_), .. }) => BreakerState::HalfOpen,
        }
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// When it opened last; absent while it is closed.
    pub fn opened_at(&self) -> Option<Timestamp> {
        self.tripped.as_ref().map(|tripped| tripped.opened_at)
    }

    /// When an open one lets one try; absent for one that only a person closes, and for any other state.
    pub fn retry_at(&self) -> Option<Timestamp> {
        self.tripped.as_ref().filter(|tripped| tripped.trial.is_none())?.retry_at()
    }

    /// Whether a person opened it.
    pub fn is_forced(&self) -> bool {
        self.tripped.as_ref().is_some_and(|tripped| tripped.wait_ms.is_none())
    }

    /// Who is being waited for while it is half-open.
    pub fn probe(&self) -> Option<&str> {
        let trial = self.tripped.as_ref()?.trial.as_ref()?;
        trial.probe.as_ref().map(|probe| probe.holder.as_str())
    }

    /// What [`Breaker::admit`] would say, changing nothing.
    pub fn would_admit(&self, holder: &str, now: Timestamp) -> Admission {
        let Some(tripped) = &self.tripped else { return Admission::Yes };
        let Some(wait) = tripped.wait() else { return Admission::No { retry_at: None } };
        let (until, ours) = match &tripped.trial {
            None => (after(tripped.opened_at.min(now), wait), false),
            Some(Trial { probe: None, .. }) => return Admission::Yes,
            Some(Trial { probe: Some(probe), .. }) => {
                (after(probe.since.min(now), PROBE_LEASE), probe.holder == holder)
            }
        };
        if ours || now >= until { Admission::Yes } else { Admission::No { retry_at: Some(until) } }
    }

    /// Whether `holder` may start now. Where the breaker is half-open, or becomes so, it is the one that is waited
    /// for; asking again, as after a crash, it may again, and its time begins anew.
    pub fn admit(&mut self, holder: &str, now: Timestamp) -> Admission {
        let admission = self.would_admit(holder, now);
        let Some(tripped) = &mut self.tripped else { return admission };
        // A clock that was set back: waiting begins now, or each question would put the end off.
        tripped.opened_at = tripped.opened_at.min(now);
        if let Some(probe) = tripped.trial.as_mut().and_then(|trial| trial.probe.as_mut()) {
            probe.since = probe.since.min(now);
        }
        if admission == Admission::Yes {
            let trial = tripped.trial.get_or_insert_default();
            trial.probe = Some(Probe { holder: holder.to_owned(), since: now });
        }
        admission
    }

    /// How what `holder` was admitted for ended. What is told by one who was admitted before the breaker opened, or
    /// whose probe somebody else has taken over, counts nothing any more.
    pub fn record(
        &mut self,
        profile: &Profile,
        holder: &str,
        outcome: Outcome,
        now: Timestamp,
    ) -> Option<Change> {
        if self.tripped.is_some() {
            return self.record_probe(profile, holder, outcome, now);
        }
        match outcome {
            Outcome::NotCounted => None,
            Outcome::Success => {
                self.failures = 0;
                None
            }
            Outcome::Failure => {
                self.failures = self.failures.saturating_add(1);
                let opens = self.failures >= profile.failure_threshold;
                opens.then(|| self.trip(profile.reset_timeout, now))
            }
        }
    }

    fn record_probe(
        &mut self,
        profile: &Profile,
        holder: &str,
        outcome: Outcome,
        now: Timestamp,
    ) -> Option<Change> {
        let tripped = self.tripped.as_mut()?;
        let wait = tripped.wait()?;
        let trial = tripped.trial.as_mut()?;
        trial.probe.take_if(|probe| probe.holder == holder)?;
        match outcome {
            Outcome::NotCounted => None,
            Outcome::Success => {
                self.failures = 0;
                trial.successes = trial.successes.saturating_add(1);
                if trial.successes < profile.half_open_successes {
                    return None;
                }
                self.tripped = None;
                Some(Change::Closed)
            }
            Outcome::Failure => {
                self.failures = self.failures.saturating_add(1);
                Some(self.trip(wait.saturating_mul(2), now))
            }
        }
    }

    fn trip(&mut self, wait: Duration, now: Timestamp) -> Change {
        let wait = wait.min(MAX_WAIT);
        self.tripped = Some(Tripped::new(now, Some(wait)));
        Change::Opened { failures: self.failures, retry_at: after(now, wait) }
    }

    /// A person opens it; it stays open until a person resets it.
    pub fn force_open(&mut self, now: Timestamp) {
        self.tripped = Some(Tripped::new(now, None));
    }

    /// A person closes it and forgives every failure.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests;
