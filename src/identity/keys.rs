//! API keys: made by people for programs, never by a key, and never worth more than who made them.
//!
//! May import: `auth`, `store`. Must never: show a key twice.

use super::{Identity, entry, new_id};
use crate::auth::{HandleKind, Minted, NoRandomness, Permission, Principal, SIGNUP_PREFIX, Via, random};
use crate::model::{Secret, after};
use crate::store::records::identity::{self, Added, KeyRecord, MAX_KEYS, Origin};
use crate::store::records::{Page, transact};
use crate::store::{CommitError, ReadError, Txn};
use std::time::Duration;

/// How long a key lives unless its maker says otherwise.
const LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);
/// How long it lives at most.
const MAX_LIFETIME: Duration = Duration::from_secs(366 * 24 * 3600);
/// The longest name, in characters.
const MAX_NAME: usize = 100;

/// What is wanted.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// What it is for.
    pub name: String,
    /// What it may do: some of its maker's roles.
    pub roles: Vec<String>,
    /// How long; 90 days where nothing is said.
    pub expires_in: Option<Duration>,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Everybody may do everything here.
    #[error("this server knows nobody: configure [auth] first, keys are of people")]
    Open,
    /// A stolen key could outlive its end.
    #[error("neither a key nor a password of --web.config.file can make keys: sign in, or use a token")]
    ByKey,
    /// A role that its maker does not have.
    #[error("you do not have the role {0:?}: a key has some of its maker's roles")]
    NotYours(String),
    /// Something is wrong with the wish.
    #[error("{message}")]
    Invalid {
        /// With which part of it.
        path: &'static str,
        /// What.
        message: String,
    },
    /// There are too many.
    #[error("you have {MAX_KEYS} keys already: delete some")]
    TooMany,
    /// No key of yours has this id.
    #[error("there is no such key")]
    Unknown,
    /// No secret could be drawn.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It could not be made durable.
    #[error(transparent)]
    Store(#[from] CommitError),
}

impl Identity {
    /// Makes a key; its text is shown here and never again.
    ///
    /// # Errors
    /// [`KeyError`].
    pub async fn make_key(&self, who: &Principal, wish: NewKey) -> Result<(KeyRecord, Secret), KeyError> {
        let (name, lifetime) = check(who, &wish)?;
        let now = self.now();
        let id = new_id(now)?;
        let minted = Minted::new(HandleKind::Key, &id, random()?);
        let record = KeyRecord {
            id,
            name,
            owner: who.subject.clone(),
            origin: origin(who),
            roles: wish.roles,
            digest: minted.digest.encoded(),
            created_at: now,
            expires_at: after(now, lifetime),
            last_used: None,
        };
        let mut audited = entry(now, &who.subject, "key.create", &record.id);
        audited.detail = [
            ("name", record.name.clone()),
            ("roles", record.roles.join(", ")),
            ("expires_at", record.expires_at.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        let stored = record.clone();
        let work = move |txn: &mut dyn Txn| identity::add_key(txn, &stored, audited.clone());
        match transact(&**self.records().store(), work).await? {
            Added::Done => Ok((record, minted.text)),
            Added::Full | Added::Taken => Err(KeyError::TooMany),
        }
    }

    /// The keys of `who`; those of everybody for an administrator.
    ///
    /// # Errors
    /// [`KeyError::Read`].
    pub async fn keys(
        &self,
        who: &Principal,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page<KeyRecord>, KeyError> {
        let owner = (!who.permissions.allow(Permission::Admin)).then_some(who.subject.as_str());
        let mut page = self.records().api_keys(owner, cursor, limit).await?;
        for record in &mut page.items {
            record.last_used = record.last_used.max(self.remembered_use(&record.id));
        }
        Ok(page)
    }

    /// Ends a key. One of somebody else is unknown to all but administrators.
    ///
    /// # Errors
    /// [`KeyError`].
    pub async fn revoke_key(&self, who: &Principal, id: &str) -> Result<KeyRecord, KeyError> {
        let admin = who.permissions.allow(Permission::Admin);
        let mine = |record: &KeyRecord| admin || record.owner == who.subject;
        let record = self.records().api_key(id).await?.filter(mine).ok_or(KeyError::Unknown)?;
        let mut audited = entry(self.now(), &who.subject, "key.revoke", id);
        audited.detail = [("name", record.name), ("owner", record.owner)]
            .map(|(name, value)| (name.to_owned(), value))
            .into();
        let id = id.to_owned();
        let work = move |txn: &mut dyn Txn| identity::revoke_key(txn, &id, audited.clone());
        transact(&**self.records().store(), work).await?.ok_or(KeyError::Unknown)
    }
}

fn check(who: &Principal, wish: &NewKey) -> Result<(String, Duration), KeyError> {
    let invalid = |path, message: String| Err(KeyError::Invalid { path, message });
    match who.via {
        Via::Nobody => return Err(KeyError::Open),
        Via::Key(_) | Via::Password => return Err(KeyError::ByKey),
        Via::Token | Via::Session(_) => {}
    }
    let name = wish.name.trim();
    if name.is_empty() || name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
        return invalid(
            "name",
            format!("a name has 1 to {MAX_NAME} characters, and says what the key is for"),
        );
    }
    if wish.roles.is_empty() {
        return invalid("roles", "a key without a role could do nothing".to_owned());
    }
    if let Some(role) = wish.roles.iter().find(|role| !who.roles.contains(role)) {
        return Err(KeyError::NotYours(role.chars().take(MAX_NAME).collect()));
    }
    let lifetime = wish.expires_in.unwrap_or(LIFETIME);
    if lifetime.is_zero() || lifetime > MAX_LIFETIME {
        return invalid("expires_in", "write up to 366days, such as \"30days\"".to_owned());
    }
    Ok((name.to_owned(), lifetime))
}

/// Where the owner of a new key is known from.
fn origin(who: &Principal) -> Origin {
    match who.via {
        Via::Session(_) if who.subject.starts_with(SIGNUP_PREFIX) => Origin::Signup,
        Via::Session(_) => Origin::File,
        Via::Token | Via::Password | Via::Key(_) | Via::Nobody => Origin::Token,
    }
}
