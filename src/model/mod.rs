//! The words of runbookd: plain data that every other room speaks in.
//!
//! May import: nothing of this crate. Must never: do I/O, read a clock, know HTTP, TOML or the store.
//! Types that appear by name in stored records and in API bodies derive serde here, because
//! the word and its spelling are one and the same thing; everything else converts at its own edge.

mod alert;
mod clock;
mod confinement;
mod decision;
mod effect;
mod env_name;
mod episode;
mod expect;
mod hex;
mod id;
mod matcher;
mod network;
mod part;
mod permission;
mod reason;
mod secret;
mod status;
mod unseen;

pub use alert::{Alert, AlertStatus, Fingerprint, Labels};
pub use clock::{Clock, ManualClock, Timestamp, after, before, between};
pub use confinement::{Confinement, Sandbox, StepLimits};
pub use decision::{DecidedAlert, Decision, GateReport, GateVerdict, PlannedStep, Verdict};
pub use effect::Effect;
pub use env_name::env_name_problem;
pub use episode::{Episode, EpisodeKey};
pub use expect::{Expect, ExpectError};
pub use hex::hex;
pub use id::{DecisionId, ExecutionId, IdError, MAX_MESSAGES, RunbookId, StepId, Target, is_word};
pub use matcher::{Matcher, MatcherError, anchored_regex, quoted};
pub use network::{Network, neighbourhood};
pub use part::{Part, Role};
pub use permission::Permission;
pub use reason::Reason;
pub use secret::Secret;
pub(crate) use status::words;
pub use status::{AttemptOutcome, ExecutionStatus, StepStatus};
pub use unseen::is_unseen;
