//! Reason codes: why an alert did or did not become an execution, and why an execution ended as it did.
//!
//! A code is a promise to scripts and dashboards; each has one sentence for people here and a line
//! in SRE.md, and a test holds the two together.

use super::status::words;
use serde::{Deserialize, Serialize};
use std::fmt;

words! {
    /// Why. Decision codes first, in gate order; the codes of ended executions after them.
    Reason {
        /// All gates passed.
        Matched = "matched",
        /// The element is not an alert that can be decided on.
        InvalidAlert = "invalid_alert",
        /// Resolved alerts start nothing.
        Resolved = "resolved",
        /// A firing that began before its last episode ended; or a schedule's due time that is too long ago.
        Stale = "stale",
        /// This episode already has its execution; or the schedule's last one still lives.
        Repeat = "repeat",
        /// Nothing selects a runbook for it.
        NoRunbook = "no_runbook",
        /// What selects names a runbook that does not exist or is broken.
        UnknownRunbook = "unknown_runbook",
        /// The runbook does not allow this alert to select it.
        NotAllowed = "not_allowed",
        /// The runbook's mode is `disabled`.
        Disabled = "disabled",
        /// The kill switch is at `aborted`.
        Aborted = "aborted",
        /// The kill switch is at `halted`.
        Halted = "halted",
        /// The kill switch is at `draining`.
        Draining = "draining",
        /// A freeze of the config is in force.
        Frozen = "frozen",
        /// Too many episodes began at once.
        Storm = "storm",
        /// The alert fires and resolves again and again.
        Flapping = "flapping",
        /// A rollback failed on the target, and nobody has cleared it since.
        Quarantined = "quarantined",
        /// The last execution on the target is not over, or not for long enough.
        Cooldown = "cooldown",
        /// The runbook was tried on the target as often as it may be.
        AttemptsExhausted = "attempts_exhausted",
        /// The breaker of the runbook and the target is open.
        BreakerOpen = "breaker_open",
        /// The runbook acted on as many targets as it may.
        TooManyTargets = "too_many_targets",
        /// An input is missing or does not match its pattern.
        InvalidInput = "invalid_input",
        /// The target is missing, blank or a pattern.
        InvalidTarget = "invalid_target",
        /// The runbook's mode is `shadow`.
        Shadow = "shadow",
        /// Alertmanager cannot be asked whether the alert fires.
        Unconfirmed = "unconfirmed",
        /// Alertmanager does not know the alert.
        NotFiring = "not_firing",
        /// Alertmanager silences or inhibits the alert.
        Silenced = "silenced",
        /// Too much is unhealthy, or nobody knows how much.
        Systemic = "systemic",
        /// What must hold before the first step does not.
        PrecheckFailed = "precheck_failed",
        /// It waited in the queue past its deadline.
        QueueExpired = "queue_expired",
        /// A step failed for good.
        StepFailed = "step_failed",
        /// The runbook's whole timeout passed.
        Timeout = "timeout",
        /// A step that must not run twice was interrupted by a crash.
        UnknownOutcome = "unknown_outcome",
        /// The verify did not hold in time.
        NotVerified = "not_verified",
        /// A person stopped it.
        Stopped = "stopped",
        /// A person refused consent.
        Rejected = "rejected",
        /// Nobody consented in time.
        ApprovalExpired = "approval_expired",
        /// What was done could not be undone.
        UndoFailed = "undo_failed",
        /// The stored record of the execution cannot be continued.
        Unreadable = "unreadable",
    }
}

impl Reason {
    /// The decision codes, in gate order.
    pub const DECISION: &'static [Self] = &[
        Self::Matched,
        Self::InvalidAlert,
        Self::Resolved,
        Self::Stale,
        Self::Repeat,
        Self::NoRunbook,
        Self::UnknownRunbook,
        Self::NotAllowed,
        Self::Disabled,
        Self::Aborted,
        Self::Halted,
        Self::Draining,
        Self::Frozen,
        Self::Storm,
        Self::Flapping,
        Self::Quarantined,
        Self::Cooldown,
        Self::AttemptsExhausted,
        Self::BreakerOpen,
        Self::TooManyTargets,
        Self::InvalidInput,
        Self::InvalidTarget,
        Self::Shadow,
        Self::Unconfirmed,
        Self::NotFiring,
        Self::Silenced,
        Self::Systemic,
        Self::PrecheckFailed,
        Self::QueueExpired,
    ];

    /// One sentence for the person who reads it at night.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Matched => "every gate passed",
            Self::InvalidAlert => "the element is not an alert that can be decided on",
            Self::Resolved => "a resolved alert starts nothing",
            Self::Stale => "this firing began before its last episode ended; it is an old delivery",
            Self::Repeat => "this episode already has its execution",
            Self::NoRunbook => "no mapping, annotation or runbook selects this alert",
            Self::UnknownRunbook => "the selected runbook does not exist or cannot be read",
            Self::NotAllowed => "the runbook's [allow] does not let this alert select it",
            Self::Disabled => "the runbook's mode is disabled",
            Self::Aborted => "the kill switch is at aborted: nothing starts, and what ran was killed",
            Self::Halted => "the kill switch is at halted: nothing starts and nothing goes on",
            Self::Draining => "the kill switch is at draining: nothing starts",
            Self::Frozen => "a freeze is in force",
            Self::Storm => "so many episodes began at once that no runbook is the answer",
            Self::Flapping => "the alert fires and resolves again and again",
            Self::Quarantined => "a rollback failed on the target, and nobody has cleared it since",
            Self::Cooldown => "the last execution on the target is not over, or not for long enough",
            Self::AttemptsExhausted => "the runbook was tried on the target as often as it may be",
            Self::BreakerOpen => "the runbook failed on the target too often, its breaker is open",
            Self::TooManyTargets => "the runbook acted on as many targets as it may",
            Self::InvalidInput => "an input is missing or does not match its pattern",
            Self::InvalidTarget => "the target is missing, blank or a pattern",
            Self::Shadow => "the runbook's mode is shadow: it is shown, not run",
            Self::Unconfirmed => "Alertmanager cannot be asked whether the alert still fires",
            Self::NotFiring => "Alertmanager does not know this alert",
            Self::Silenced => "Alertmanager silences or inhibits this alert",
            Self::Systemic => {
                "too much is unhealthy for one runbook to be the answer, or nobody knows how much"
            }
            Self::PrecheckFailed => "what must hold before the first step does not",
            Self::QueueExpired => "it waited in the queue past its deadline",
            Self::StepFailed => "a step failed",
            Self::Timeout => "the runbook's timeout passed",
            Self::UnknownOutcome => "a step that must not run twice was interrupted, its outcome is unknown",
            Self::NotVerified => "the verify did not hold in time",
            Self::Stopped => "a person stopped it",
            Self::Rejected => "a person refused consent",
            Self::ApprovalExpired => "nobody consented in time",
            Self::UndoFailed => "what was done could not be undone; a person is needed",
            Self::Unreadable => "its stored record cannot be continued by this version",
        }
    }
}
