//! Who people and programs are, beyond what a token says by itself: local users, sessions, API keys, and the keys
//! that an issuer of tokens serves.
//!
//! ```text
//! login, signup, logout ─▶ sessions ┐
//! keys: make, list, revoke ─────────┼─▶ store (digests only) ◀── lookup: whose is this credential
//! jwks: an issuer's keys, kept fresh ┘
//! ```
//! `auth` decides; this room keeps what it decides by. May import: `auth`, `journal` (audit entries), `model`,
//! `step` (the HTTP client), `store`, `telemetry`. Must never: keep a secret in clear, hash a password on a task that
//! serves others, or write to the store for every request.

mod hashing;
mod jwks;
mod keys;
mod login;
mod lookup;
mod refusal;

#[cfg(test)]
mod tests;

pub use hashing::{Busy, Hasher};
pub use jwks::{Jwks, JwksSettings};
pub use keys::{KeyError, NewKey};
pub use login::{DevIssuer, LoginError, SignedIn};
pub use refusal::Refusal;

use crate::auth::{Allowances, LoginLimiter, NoRandomness, PasswordHash, Rule, random};
use crate::journal::AuditEntry;
use crate::model::{Clock, RunbookId, Timestamp};
use crate::store::records::Records;
use crate::telemetry::Metrics;
use lookup::Touched;
use refusal::Refusals;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::time::MissedTickBehavior;
use ulid::Ulid;

/// Between two times that what was used is written down.
const WRITE_DOWN: Duration = Duration::from_secs(60);
/// Audit records of failed sign-ins: so many at once, then one every so often; the others are counted.
const NOTED: Rule = Rule { burst: 30, every: Duration::from_secs(2) };

/// Somebody in the users file.
#[derive(Debug, Clone)]
pub struct User {
    /// Of their password.
    pub hash: PasswordHash,
    /// What they may do.
    pub roles: Vec<String>,
}

/// What the config says of people; exchanged as a whole on reload.
#[derive(Debug, Default)]
pub struct Accounts {
    /// Those in the users file, by name.
    pub users: BTreeMap<String, User>,
    /// Whether people may make accounts for themselves, and use those they made.
    pub signup: bool,
    /// How long a session lives without being used.
    pub session_idle: Duration,
    /// How long it lives at all.
    pub session_max: Duration,
    /// Makes tokens for whoever asks; only for trying things out.
    pub dev: Option<DevIssuer>,
}

/// What this room stands on.
pub struct Parts {
    /// The store.
    pub records: Records,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Numbers.
    pub metrics: Metrics,
    /// Whether a runbook exists: what is refused about others is not kept.
    pub is_runbook: Box<dyn Fn(&RunbookId) -> bool + Send + Sync>,
}

struct Inner {
    parts: Parts,
    accounts: RwLock<Arc<Accounts>>,
    hasher: Hasher,
    limiter: Mutex<LoginLimiter>,
    noted: Mutex<(Allowances<()>, u64)>,
    touched: Mutex<Touched>,
    refusals: Refusals,
}

/// The room. Cheap to clone.
#[derive(Clone)]
pub struct Identity(Arc<Inner>);

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

impl Identity {
    /// Over these parts, by these accounts.
    pub fn new(parts: Parts, accounts: Accounts) -> Self {
        Self(Arc::new(Inner {
            parts,
            accounts: RwLock::new(Arc::new(accounts)),
            hasher: Hasher::default(),
            limiter: Mutex::default(),
            noted: Mutex::new((Allowances::new(NOTED, 1), 0)),
            touched: Mutex::default(),
            refusals: Refusals::default(),
        }))
    }

    /// Puts other accounts in force: sessions and keys of those who are gone are worth nothing from now on.
    pub fn reconfigure(&self, accounts: Accounts) {
        *self.0.accounts.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(accounts);
    }

    /// Writes down what was used and what was refused, from time to time; ends with its task.
    pub async fn keep(self) {
        let mut tick = tokio::time::interval(WRITE_DOWN);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {
                    self.write_down_uses().await;
                    self.sweep_sessions().await;
                }
                () = self.0.refusals.waiting() => self.write_down_refusals().await,
            }
        }
    }

    /// Writes down what is still only remembered, before the end.
    pub async fn write_down(&self) {
        self.write_down_uses().await;
        self.write_down_refusals().await;
    }

    fn accounts(&self) -> Arc<Accounts> {
        Arc::clone(&self.0.accounts.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn now(&self) -> Timestamp {
        self.0.parts.clock.now()
    }

    fn records(&self) -> &Records {
        &self.0.parts.records
    }
}

/// The id of something new: it sorts by its time.
fn new_id(now: Timestamp) -> Result<String, NoRandomness> {
    let milliseconds = u64::try_from(now.as_millisecond()).unwrap_or(0);
    let mut bytes = [0; 16];
    bytes[6..].copy_from_slice(&random::<10>()?);
    Ok(Ulid::from_parts(milliseconds, u128::from_be_bytes(bytes)).to_string())
}

fn entry(at: Timestamp, user: &str, action: &'static str, target: &str) -> AuditEntry {
    AuditEntry {
        at,
        user: user.to_owned(),
        action,
        target: target.to_owned(),
        reason: String::new(),
        detail: BTreeMap::new(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
