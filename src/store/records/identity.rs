//! API keys, sessions and accounts; each change of one stands in the audit log, and no secret stands anywhere.
//!
//! How many there can be is bounded by their owners' lists, which are read and written with them.

use super::key::short_hash;
use super::{Page, Records, Scan, audit, from_bytes, read, to_bytes};
use crate::journal::AuditEntry;
use crate::model::Timestamp;
use crate::store::{CommitError, ReadError, Txn};
use serde::{Deserialize, Serialize};

/// The most keys of one owner.
pub const MAX_KEYS: usize = 100;
/// The most sessions of one person; one more ends the oldest.
pub const MAX_SESSIONS: usize = 20;
/// The most accounts that people make for themselves.
pub const MAX_USERS: u64 = 10_000;

const API_KEY: &[u8] = b"ak/";
const SESSION: &[u8] = b"us/";
const USER_COUNT: &[u8] = b"u-count";

fn key_of(id: &str) -> Vec<u8> {
    format!("ak/{id}").into_bytes()
}

fn api_keys_of(owner: &str) -> Vec<u8> {
    format!("ao/{}", short_hash(owner.as_bytes())).into_bytes()
}

fn session_key(id: &str) -> Vec<u8> {
    format!("us/{id}").into_bytes()
}

fn sessions_of(subject: &str) -> Vec<u8> {
    format!("uo/{}", short_hash(subject.as_bytes())).into_bytes()
}

fn user_key(name: &str) -> Vec<u8> {
    format!("un/{}", short_hash(name.as_bytes())).into_bytes()
}

/// Who says that there is such a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The issuer of tokens.
    Token,
    /// The users file.
    File,
    /// They themselves.
    Signup,
}

/// An API key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// Its id, a ULID.
    pub id: String,
    /// What it is for, in its owner's words.
    pub name: String,
    /// Whose it is.
    pub owner: String,
    /// Where the owner is known from.
    pub origin: Origin,
    /// What it may claim to be, at most.
    pub roles: Vec<String>,
    /// SHA-256 of the whole key.
    pub digest: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// When it was used, to the minute.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_used: Option<Timestamp>,
}

/// Somebody who signed in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Its id, a ULID.
    pub id: String,
    /// Who.
    pub subject: String,
    /// Where they are known from.
    pub origin: Origin,
    /// SHA-256 of the whole credential.
    pub digest: String,
    /// The mark of the password they signed in with.
    pub password: String,
    /// When they signed in.
    pub created_at: Timestamp,
    /// When it ends, whatever is done with it.
    pub expires_at: Timestamp,
    /// When it was used, to the minute.
    pub last_used: Timestamp,
}

/// Somebody who signed up.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRecord {
    /// Their name.
    pub name: String,
    /// argon2id, in PHC text.
    pub password_hash: String,
    /// When.
    pub created_at: Timestamp,
}

impl std::fmt::Debug for UserRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserRecord").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What came of adding something whose number is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It is there.
    Done,
    /// There are too many.
    Full,
    /// There is one of this name.
    Taken,
}

/// Adds a key, and writes that into the audit log. Expired ones of its owner make room.
///
/// # Errors
/// As [`audit::append`].
pub fn add_key(txn: &mut dyn Txn, record: &KeyRecord, entry: AuditEntry) -> Result<Added, CommitError> {
    let list = api_keys_of(&record.owner);
    let mut ids = Vec::new();
    for id in read::<Vec<String>>(txn, &list)?.unwrap_or_default() {
        match read::<KeyRecord>(txn, &key_of(&id))? {
            Some(known) if known.expires_at > record.created_at => ids.push(id),
            Some(_) => txn.delete(key_of(&id)),
            None => {}
        }
    }
    if ids.len() >= MAX_KEYS {
        return Ok(Added::Full);
    }
    audit::append(txn, entry)?;
    ids.push(record.id.clone());
    txn.put(key_of(&record.id), to_bytes(record)?);
    txn.put(list, to_bytes(&ids)?);
    Ok(Added::Done)
}

/// Removes a key, and writes that into the audit log; `None` when there is none.
///
/// # Errors
/// As [`audit::append`].
pub fn revoke_key(txn: &mut dyn Txn, id: &str, entry: AuditEntry) -> Result<Option<KeyRecord>, CommitError> {
    let Some(record) = read::<KeyRecord>(txn, &key_of(id))? else { return Ok(None) };
    audit::append(txn, entry)?;
    txn.delete(key_of(id));
    unlist(txn, api_keys_of(&record.owner), id)?;
    Ok(Some(record))
}

/// Adds a session, and writes that into the audit log; the oldest of too many ends.
///
/// # Errors
/// As [`audit::append`].
pub fn add_session(txn: &mut dyn Txn, record: &SessionRecord, entry: AuditEntry) -> Result<(), CommitError> {
    audit::append(txn, entry)?;
    put_session(txn, record)
}

fn put_session(txn: &mut dyn Txn, record: &SessionRecord) -> Result<(), CommitError> {
    let list = sessions_of(&record.subject);
    let mut ids: Vec<String> = read(txn, &list)?.unwrap_or_default();
    while ids.len() >= MAX_SESSIONS {
        txn.delete(session_key(&ids.remove(0)));
    }
    ids.push(record.id.clone());
    txn.put(session_key(&record.id), to_bytes(record)?);
    txn.put(list, to_bytes(&ids)?);
    Ok(())
}

/// Ends a session, and writes that into the audit log; false when there is none.
///
/// # Errors
/// As [`audit::append`].
pub fn end_session(txn: &mut dyn Txn, id: &str, entry: AuditEntry) -> Result<bool, CommitError> {
    let Some(record) = read::<SessionRecord>(txn, &session_key(id))? else { return Ok(false) };
    audit::append(txn, entry)?;
    txn.delete(session_key(id));
    unlist(txn, sessions_of(&record.subject), id)?;
    Ok(true)
}

/// Adds an account with its first session, and writes that into the audit log.
///
/// # Errors
/// As [`audit::append`].
pub fn add_user(
    txn: &mut dyn Txn,
    record: &UserRecord,
    session: &SessionRecord,
    entry: AuditEntry,
) -> Result<Added, CommitError> {
    let user = user_key(&record.name);
    if txn.get(&user)?.is_some() {
        return Ok(Added::Taken);
    }
    let count = read::<u64>(txn, USER_COUNT)?.unwrap_or(0);
    if count >= MAX_USERS {
        return Ok(Added::Full);
    }
    audit::append(txn, entry)?;
    txn.put(user, to_bytes(record)?);
    txn.put(USER_COUNT.to_vec(), to_bytes(&(count + 1))?);
    put_session(txn, session)?;
    Ok(Added::Done)
}

/// Notes when keys and sessions were used. What is gone meanwhile stays gone.
///
/// # Errors
/// As [`Txn::get`].
pub fn touch(
    txn: &mut dyn Txn,
    keys: &[(String, Timestamp)],
    sessions: &[(String, Timestamp)],
) -> Result<(), CommitError> {
    for (id, at) in keys {
        if let Some(record) = read::<KeyRecord>(txn, &key_of(id))? {
            let last_used = record.last_used.max(Some(*at));
            txn.put(key_of(id), to_bytes(&KeyRecord { last_used, ..record })?);
        }
    }
    for (id, at) in sessions {
        if let Some(record) = read::<SessionRecord>(txn, &session_key(id))? {
            let last_used = record.last_used.max(*at);
            txn.put(session_key(id), to_bytes(&SessionRecord { last_used, ..record })?);
        }
    }
    Ok(())
}

/// Removes sessions that are over.
///
/// # Errors
/// As [`Txn::get`].
pub fn drop_sessions(txn: &mut dyn Txn, ids: &[String]) -> Result<(), CommitError> {
    for id in ids {
        if let Some(record) = read::<SessionRecord>(txn, &session_key(id))? {
            txn.delete(session_key(id));
            unlist(txn, sessions_of(&record.subject), id)?;
        }
    }
    Ok(())
}

fn unlist(txn: &mut dyn Txn, list: Vec<u8>, id: &str) -> Result<(), CommitError> {
    let mut ids: Vec<String> = read(txn, &list)?.unwrap_or_default();
    ids.retain(|known| known != id);
    if ids.is_empty() {
        txn.delete(list);
    } else {
        txn.put(list, to_bytes(&ids)?);
    }
    Ok(())
}

impl Records {
    /// An API key.
    ///
    /// # Errors
    /// As [`crate::store::Store::get`].
    pub async fn api_key(&self, id: &str) -> Result<Option<KeyRecord>, ReadError> {
        self.one(&key_of(id)).await
    }

    /// A session.
    ///
    /// # Errors
    /// As [`crate::store::Store::get`].
    pub async fn session(&self, id: &str) -> Result<Option<SessionRecord>, ReadError> {
        self.one(&session_key(id)).await
    }

    /// Somebody who signed up.
    ///
    /// # Errors
    /// As [`crate::store::Store::get`].
    pub async fn user(&self, name: &str) -> Result<Option<UserRecord>, ReadError> {
        self.one(&user_key(name)).await
    }

    /// Keys of `owner`, or of everybody, behind `cursor`, newest first.
    ///
    /// # Errors
    /// As [`crate::store::Store::scan`].
    pub async fn api_keys(
        &self,
        owner: Option<&str>,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page<KeyRecord>, ReadError> {
        let Some(owner) = owner else { return self.all_api_keys(cursor, limit).await };
        let mut ids: Vec<String> = self.one(&api_keys_of(owner)).await?.unwrap_or_default();
        ids.sort_unstable_by(|one, other| other.cmp(one));
        let mut items = Vec::new();
        for id in ids.iter().filter(|id| cursor.is_none_or(|cursor| id.as_str() < cursor)).take(limit + 1) {
            items.extend(self.api_key(id).await?);
        }
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = items.last().filter(|_| more).map(|last| last.id.clone());
        Ok(Page { items, next_cursor })
    }

    async fn all_api_keys(&self, cursor: Option<&str>, limit: usize) -> Result<Page<KeyRecord>, ReadError> {
        self.page_of(API_KEY.to_vec(), cursor, limit).await
    }

    /// Up to `limit` sessions behind the one of id `after`, oldest first.
    ///
    /// # Errors
    /// As [`crate::store::Store::scan`].
    pub async fn sessions(&self, after: Option<&str>, limit: usize) -> Result<Vec<SessionRecord>, ReadError> {
        let prefix = SESSION.to_vec();
        let scan = Scan { prefix, after: after.map(session_key), reverse: false, limit };
        let pairs = self.store.scan(scan).await?;
        pairs.iter().map(|(key, bytes)| from_bytes(key, bytes)).collect()
    }
}
