//! Whose a key or a session is, and when it was used.
//!
//! Asked of the store each time, so that what was revoked is refused by every instance at once; uses are remembered
//! and written down together. May import: `auth`, `store`. Must never: commit on the way of a request.

use super::{Accounts, Identity, lock};
use crate::auth::{Failure, Handle, HandleKind, Holder, SIGNUP_PREFIX, Stored};
use crate::model::{Timestamp, after};
use crate::store::CommitError;
use crate::store::ReadError;
use crate::store::records::identity::{self, KeyRecord, Origin, SessionRecord};
use crate::store::records::transact;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::collections::HashMap;
use std::time::Duration;

/// What may be remembered of each kind before it is written down.
const MOST: usize = 100_000;
/// Sessions looked at in one portion of a sweep.
const STRIDE: usize = 500;
/// What somebody who signed up may do.
pub(super) const SIGNUP_ROLE: &str = "viewer";

/// When keys and sessions were used, since that was last written down.
#[derive(Debug, Default)]
pub(super) struct Touched {
    keys: HashMap<String, Timestamp>,
    sessions: HashMap<String, Timestamp>,
}

impl Touched {
    fn of(&mut self, kind: HandleKind) -> &mut HashMap<String, Timestamp> {
        match kind {
            HandleKind::Key => &mut self.keys,
            HandleKind::Session => &mut self.sessions,
        }
    }
}

impl Stored for Identity {
    fn holder<'a>(&'a self, handle: &'a Handle, now: Timestamp) -> BoxFuture<'a, Result<Holder, Failure>> {
        async move {
            match handle.kind {
                HandleKind::Key => self.key_holder(handle, now).await,
                HandleKind::Session => self.session_holder(handle, now).await,
            }
        }
        .boxed()
    }

    fn used(&self, handle: &Handle, now: Timestamp) {
        let mut touched = lock(&self.0.touched);
        let uses = touched.of(handle.kind);
        if uses.len() < MOST || uses.contains_key(&handle.id) {
            uses.insert(handle.id.clone(), now);
        }
    }
}

impl Identity {
    async fn key_holder(&self, handle: &Handle, now: Timestamp) -> Result<Holder, Failure> {
        let record = self.records().api_key(&handle.id).await.map_err(|error| unavailable(&error))?;
        let known = |record: &KeyRecord| handle.digest.is(&record.digest);
        let record = record.filter(known).ok_or(Failure::Credential)?;
        if now >= record.expires_at {
            return Err(Failure::Expired);
        }
        let now_has = self.accounts().roles_of(&record.owner, record.origin).ok_or(Failure::Credential)?;
        // What its owner lost, the key lost.
        let may = |role: &String| now_has.as_ref().is_none_or(|roles| roles.contains(role));
        let roles = record.roles.into_iter().filter(may).collect();
        Ok(Holder { subject: record.owner, roles })
    }

    async fn session_holder(&self, handle: &Handle, now: Timestamp) -> Result<Holder, Failure> {
        let record = self.records().session(&handle.id).await.map_err(|error| unavailable(&error))?;
        let known = |record: &SessionRecord| handle.digest.is(&record.digest);
        let record = record.filter(known).ok_or(Failure::Credential)?;
        let accounts = self.accounts();
        let remembered = lock(&self.0.touched).sessions.get(&handle.id).copied();
        let used = record.last_used.max(remembered.unwrap_or(record.last_used));
        if is_over(&record, used, accounts.session_idle, now) {
            return Err(Failure::Expired);
        }
        let roles = accounts.roles_of(&record.subject, record.origin).flatten();
        // Whoever gets another password is signed out everywhere. Accounts of their own making keep theirs.
        let mark = accounts.users.get(&record.subject).map(|user| user.hash.mark());
        if record.origin == Origin::File && mark.as_ref() != Some(&record.password) {
            return Err(Failure::Credential);
        }
        Ok(Holder { roles: roles.ok_or(Failure::Credential)?, subject: record.subject })
    }

    /// When a key was used, as far as it is only remembered.
    pub(super) fn remembered_use(&self, key: &str) -> Option<Timestamp> {
        lock(&self.0.touched).keys.get(key).copied()
    }

    pub(super) async fn write_down_uses(&self) {
        let Touched { keys, sessions } = std::mem::take(&mut *lock(&self.0.touched));
        if keys.is_empty() && sessions.is_empty() {
            return;
        }
        let (keys, sessions): (Vec<_>, Vec<_>) = (keys.into_iter().collect(), sessions.into_iter().collect());
        let written = {
            let (keys, sessions) = (keys.clone(), sessions.clone());
            transact(&**self.records().store(), move |txn| identity::touch(txn, &keys, &sessions)).await
        };
        if let Err(error) = written {
            // A session must not end because its use could not be written down; what came since is newer.
            let mut touched = lock(&self.0.touched);
            for (id, at) in keys {
                touched.keys.entry(id).or_insert(at);
            }
            for (id, at) in sessions {
                touched.sessions.entry(id).or_insert(at);
            }
            tracing::warn!(%error, "when keys and sessions were used could not be written down; it is tried again");
        }
    }

    /// Removes sessions that are over.
    pub(super) async fn sweep_sessions(&self) {
        let (idle, now) = (self.accounts().session_idle, self.now());
        let mut after = None;
        loop {
            let Ok(portion) = self.records().sessions(after.as_deref(), STRIDE).await else { return };
            let Some(last) = portion.last() else { return };
            after = Some(last.id.clone());
            // One that was used since is not over; what is remembered was written down just now.
            let over: Vec<String> = portion
                .iter()
                .filter(|record| is_over(record, record.last_used, idle, now))
                .map(|record| record.id.clone())
                .collect();
            if !over.is_empty() && self.drop_sessions(over).await.is_err() {
                return;
            }
        }
    }

    async fn drop_sessions(&self, ids: Vec<String>) -> Result<(), CommitError> {
        transact(&**self.records().store(), move |txn| identity::drop_sessions(txn, &ids)).await
    }
}

impl Accounts {
    /// What somebody may claim to be: `None` where there is no such person any more, `Some(None)` where only the
    /// issuer of tokens knows.
    fn roles_of(&self, subject: &str, origin: Origin) -> Option<Option<Vec<String>>> {
        match origin {
            Origin::Token => Some(None),
            Origin::File => self.users.get(subject).map(|user| Some(user.roles.clone())),
            Origin::Signup if self.signup && subject.starts_with(SIGNUP_PREFIX) => {
                Some(Some(vec![SIGNUP_ROLE.to_owned()]))
            }
            Origin::Signup => None,
        }
    }
}

fn is_over(record: &SessionRecord, used: Timestamp, idle: Duration, now: Timestamp) -> bool {
    now >= record.expires_at || now >= after(used, idle)
}

fn unavailable(error: &ReadError) -> Failure {
    tracing::error!(%error, "the store cannot be read: a credential could not be checked");
    Failure::Unavailable
}
