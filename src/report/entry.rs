//! What is kept of an escalation: what happened, who was told, and whether a person has taken it.

use crate::model::{
    EpisodeKey, ExecutionId, ExecutionStatus, Reason, RunbookId, StepId, Timestamp, after, words,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::time::Duration;
use ulid::Ulid;

/// How many different targets of a denial are named.
pub const MAX_TARGETS: usize = 20;
/// How long a denial's totals gather before people are told of them.
const GATHERS: Duration = Duration::from_secs(5);
/// How long what is counted together is one escalation.
pub const WINDOW: Duration = Duration::from_secs(3600);

words! {
    /// Why people are told.
    Cause {
        /// An execution ended in another way than well.
        Finished = "finished",
        /// Consent is asked for.
        Approval = "approval",
        /// An execution is held by a failure, until a person decides.
        Paused = "paused",
        /// A step asks a person to do something.
        Instruction = "instruction",
        /// A crash hid the outcome of a step that must not run twice, and the execution goes on.
        UnknownOutcome = "unknown_outcome",
        /// Automation denied itself, because too much is broken.
        Denied = "denied",
        /// More of one runbook ended badly than can be told one by one.
        Flood = "flood",
    }
}

words! {
    /// Where an escalation stands.
    Standing {
        /// Nobody has taken it yet.
        Open = "open",
        /// A person has.
        Acknowledged = "acknowledged",
        /// It is over without that: the alert resolved, or what was asked for has happened.
        Resolved = "resolved",
        /// Nobody is to be told: the config names nobody.
        Silent = "silent",
        /// Too many of its runbook waited to be told: it is counted in one that stands for all of these.
        Dropped = "dropped",
    }
}

words! {
    /// Where one channel's message stands.
    DeliveryState {
        /// Not accepted yet.
        Waiting = "waiting",
        /// Accepted.
        Sent = "sent",
        /// Given up, or refused for good.
        Failed = "failed",
        /// Not needed any more.
        Cancelled = "cancelled",
        /// Accepted, and later taken back at the far side.
        Resolved = "resolved",
    }
}

/// The id of an escalation: a ULID, made of what it is about, so that saying it twice makes one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EscalationId(Box<str>);

impl EscalationId {
    /// The id of what happened `at` a time to `what`.
    pub fn of(at: Timestamp, what: &str) -> Self {
        let hash = Sha256::digest(what);
        let random = hash[..10].iter().fold(0_u128, |sum, byte| (sum << 8) | u128::from(*byte));
        let ulid = Ulid::from_parts(u64::try_from(at.as_millisecond()).unwrap_or(0), random);
        Self(ulid.to_string().into())
    }

    /// The id spelled `text`, if it is one.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 26 && Ulid::from_string(text).is_ok()).then(|| Self(text.into()))
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EscalationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for EscalationId {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| "this is not the id of an escalation".to_owned())
    }
}

impl From<EscalationId> for String {
    fn from(id: EscalationId) -> Self {
        id.0.into()
    }
}

/// One thing people are told of, whole. Every text in it is bounded when it is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Escalation {
    /// Its id; ids sort by time.
    pub id: EscalationId,
    /// When it happened.
    pub at: Timestamp,
    /// Why people are told.
    pub cause: Cause,
    /// Whose runbook.
    pub runbook: RunbookId,
    /// The runbook's title then.
    pub title: String,
    /// The execution; none where it never became one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub execution: Option<ExecutionId>,
    /// The step it is about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub step: Option<StepId>,
    /// Where the execution stood.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub status: Option<ExecutionStatus>,
    /// The code of why.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<Reason>,
    /// What a person needs to know beyond the code.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<String>,
    /// What it acts on.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub target: Option<String>,
    /// The alert's name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub alertname: Option<String>,
    /// The link to the alert's expression, as its sender gave it.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub source_url: String,
    /// Where people find the alert in its Alertmanager.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub alert_url: String,
    /// What was done, a line a step.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub done: Vec<String>,
    /// How much was denied.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub totals: Option<Totals>,
    /// Whom the runbook names; absent: whom the config does.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub to: Option<Vec<String>>,
    /// From when on people are told.
    pub due: Timestamp,
    /// Where it stands.
    pub standing: Standing,
    /// Who or what ended it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub closed: Option<Closed>,
    /// The messages, once planned.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub deliveries: Option<Vec<Delivery>>,
    /// Counts its writings.
    pub revision: u64,
}

impl Escalation {
    /// Whether nobody has taken it yet.
    pub fn is_open(&self) -> bool {
        self.standing == Standing::Open
    }

    /// Whether a channel has accepted a message of it.
    pub fn is_told(&self) -> bool {
        let told = |state| matches!(state, DeliveryState::Sent | DeliveryState::Resolved);
        self.deliveries().iter().any(|delivery| told(delivery.state))
    }

    /// How much it hurts that people do not know of it yet.
    pub fn urgency(&self) -> Urgency {
        let unknown = self.cause == Cause::UnknownOutcome || self.reason == Some(Reason::UnknownOutcome);
        match self.cause {
            _ if unknown || self.status == Some(ExecutionStatus::RollbackFailed) => Urgency::Damage,
            Cause::Finished | Cause::UnknownOutcome => Urgency::Ended,
            Cause::Approval | Cause::Paused | Cause::Instruction | Cause::Denied | Cause::Flood => {
                Urgency::Held
            }
        }
    }

    /// When people are told of denials that began at `at`: so late that the totals of a storm are in it.
    pub fn gathered(at: Timestamp) -> Timestamp {
        after(at, GATHERS)
    }

    /// Its messages, none before they are planned.
    pub fn deliveries(&self) -> &[Delivery] {
        self.deliveries.as_deref().unwrap_or_default()
    }
}

/// Which of two messages goes first where not all can go at once; the first word is the most urgent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Urgency {
    /// A target was left half undone, or nobody knows what happened to it.
    Damage,
    /// Something waits for a person, or automation holds itself back; there are few of these.
    Held,
    /// An execution ended badly.
    Ended,
}

/// Who or what ended an escalation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// The person; none where it ended by itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub by: Option<String>,
    /// In their words, or what happened.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

/// How much was denied in one window.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// How often.
    pub count: u64,
    /// The first different targets.
    pub targets: Vec<String>,
    /// Whether there were targets beyond those.
    pub more_targets: bool,
    /// How many of its alerts have not resolved yet.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub firing: u64,
    /// How many of its alerts have resolved; one that fires again counts again.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub resolved: u64,
}

impl Totals {
    /// Whether it is of alerts, and all of them have resolved.
    pub fn is_over(&self) -> bool {
        self.firing == 0 && self.resolved > 0
    }
}

/// One message through one channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The name it comes from: a policy, or the notifier itself.
    pub name: String,
    /// The level of that, counting up from 1.
    pub level: u32,
    /// The channel.
    pub notifier: String,
    /// When its level is told.
    pub due: Timestamp,
    /// Where it stands.
    pub state: DeliveryState,
    /// How often it was tried, taking it back not counted.
    pub attempts: u32,
    /// When it is tried next at the earliest.
    pub next: Timestamp,
    /// When it came to its state.
    pub at: Timestamp,
    /// Why the last try failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
    /// How often taking it back was tried.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub resolving: u32,
    /// Whether the answer to a try was lost, so that the far side may have it although it never said so.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub lost: bool,
}

fn is_zero<T: Default + PartialEq>(number: &T) -> bool {
    *number == T::default()
}

/// One time automation denied itself because too much is broken. Many become one escalation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// Of which runbook.
    pub runbook: RunbookId,
    /// Its title.
    pub title: String,
    /// Why.
    pub reason: Reason,
    /// The numbers, in a sentence.
    pub message: String,
    /// On what it would have acted.
    pub target: Option<String>,
    /// For which alert.
    pub alertname: Option<String>,
    /// The link to that alert's expression.
    pub source_url: String,
    /// Where people find that alert.
    pub alert_url: String,
    /// Whom the runbook names.
    pub to: Option<Vec<String>>,
    /// The execution that was denied at its start, where it was one.
    pub execution: Option<ExecutionId>,
    /// The alert whose end ends it, where it was one and became no execution.
    pub episode: Option<EpisodeKey>,
    /// When.
    pub at: Timestamp,
}
