//! What keeps automation away from a thing that it does not help, and keeps it from doing too much at once: breakers,
//! quarantined targets, cooldowns and caps, flapping, storms, freezes, the
//! kill switch.
//!
//! Plain types and pure state machines. Durable, they live in `store::records`; the gates of `admit` ask them, intake
//! and engine tell them what began and how it ended. May import: `model`, `document` (how limits are written). Must
//! never: read a clock or a store, or decide about an alert.

mod breaker;
pub mod flapping;
pub mod freeze;
mod key;
mod limits;
mod orders;
mod profile;
mod quarantine;
mod read;
mod runs;
mod settings;
mod shadow;
mod storm;
mod switch;
mod targets;

pub use breaker::{Admission, Breaker, BreakerState, Change, MAX_WAIT, Outcome};
pub use freeze::{Freeze, Weekly, Window};
pub use key::{BreakerKey, KeyError};
pub use limits::step_limits;
pub use orders::{MAX_ORDERS, Orders, Taken, Ticket};
pub use profile::{BUILT_IN_PROFILES, Profile, Profiles};
pub use quarantine::Quarantine;
pub use read::overrides;
pub use runs::{Cooling, Counted, Runs};
pub use settings::{Limit, MAX_WITHIN, Overrides, Settings};
pub use shadow::Tally;
pub use storm::{Raging, Storm, StormLimit};
pub use switch::{Board, KillSwitch, Order, Scope, SwitchState};
pub use targets::{Spread, Targets};

use crate::model::RunbookId;
use serde::{Deserialize, Serialize};

/// A breaker as it is kept: its key, whose it is, where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakerRecord {
    /// Its key, as people see it.
    pub key: String,
    /// The name of the profile it was last used with.
    pub profile: String,
    /// The runbook that last used it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub runbook: Option<RunbookId>,
    /// Whether the key holds what an alert said, so that there may be any number of its kind.
    pub templated: bool,
    /// Where it stands.
    pub breaker: Breaker,
}

impl BreakerRecord {
    /// The record of a breaker of which nothing is known: closed, without a failure.
    pub fn blank(key: &BreakerKey, profile: &Profile) -> Self {
        Self {
            key: key.as_str().to_owned(),
            profile: profile.name.to_string(),
            runbook: key.runbook().cloned(),
            templated: key.is_templated(),
            breaker: Breaker::default(),
        }
    }
}
