//! Credentials that people stored: only what they are called and their ciphertext; each change stands in the audit log.
//!
//! May import: `journal`, `model`. Must never: see a secret, or the key that opens one.

use super::{Records, Scan, audit, from_bytes, key, read, to_bytes, transact};
use crate::journal::AuditEntry;
use crate::model::Timestamp;
use crate::store::{CommitError, ReadError, Txn};
use serde::{Deserialize, Serialize};

/// The most that are kept.
pub const MAX_CREDENTIALS: usize = 1000;
/// All of them, as a prefix.
const PREFIX: &[u8] = b"cr/";
/// Who encrypts anew under another key.
const AUTOMATION: &str = "runbookd";

/// What a credential is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialKind {
    /// The private key of an ssh step.
    Ssh,
    /// Anything else: a token, a password, an address with a token in it.
    Api,
}

impl CredentialKind {
    /// The kind called `word`.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Ssh, Self::Api].into_iter().find(|kind| kind.as_str() == word)
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ssh => "ssh",
            Self::Api => "api",
        }
    }
}

/// A credential as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialRecord {
    /// Its id, made of its name.
    pub id: String,
    /// By which configs and runbooks ask for it.
    pub name: String,
    /// What it is for.
    pub kind: CredentialKind,
    /// The secret, encrypted.
    pub token: String,
    /// Who set it last.
    pub by: String,
    /// When it was first set.
    pub created_at: Timestamp,
    /// When it was set last.
    pub updated_at: Timestamp,
}

impl CredentialRecord {
    /// The id of the credential called `name`.
    pub fn id_of(name: &str) -> String {
        key::short_hash(name.as_bytes())
    }
}

fn key_of(id: &str) -> Vec<u8> {
    [PREFIX, id.as_bytes()].concat()
}

fn audited(
    txn: &mut dyn Txn,
    action: &'static str,
    record: &CredentialRecord,
    by: &str,
    reason: &str,
    at: Timestamp,
) -> Result<(), CommitError> {
    let detail = [("type".to_owned(), record.kind.as_str().to_owned())].into();
    let (user, target, reason) = (by.to_owned(), record.name.clone(), reason.to_owned());
    audit::append(txn, AuditEntry { at, user, action, target, reason, detail }).map(drop)
}

impl Records {
    /// All of them, by name.
    ///
    /// # Errors
    /// As [`crate::store::Store::scan`].
    pub async fn credentials(&self) -> Result<Vec<CredentialRecord>, ReadError> {
        let scan = Scan { prefix: PREFIX.to_vec(), after: None, reverse: false, limit: usize::MAX };
        let pairs = self.store.scan(scan).await?;
        let records = pairs.iter().map(|(key, bytes)| from_bytes(key, bytes));
        let mut records: Vec<CredentialRecord> = records.collect::<Result<_, _>>()?;
        records.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(records)
    }

    /// Sets a credential, and writes that into the audit log. Gives it as it is kept, and whether it was there before.
    ///
    /// # Errors
    /// As [`audit::append`].
    pub async fn put_credential(
        &self,
        record: CredentialRecord,
        reason: &str,
    ) -> Result<(CredentialRecord, bool), CommitError> {
        let reason = reason.to_owned();
        transact(&*self.store, move |txn| {
            let before: Option<CredentialRecord> = read(txn, &key_of(&record.id))?;
            let created_at = before.as_ref().map_or(record.created_at, |before| before.created_at);
            let record = CredentialRecord { created_at, ..record.clone() };
            audited(txn, "credential.set", &record, &record.by, &reason, record.updated_at)?;
            txn.put(key_of(&record.id), to_bytes(&record)?);
            Ok((record, before.is_some()))
        })
        .await
    }

    /// Removes a credential, and writes that into the audit log; as it was. `None` when there is none.
    ///
    /// # Errors
    /// As [`audit::append`].
    pub async fn delete_credential(
        &self,
        id: &str,
        by: &str,
        reason: &str,
        now: Timestamp,
    ) -> Result<Option<CredentialRecord>, CommitError> {
        let (id, by, reason) = (id.to_owned(), by.to_owned(), reason.to_owned());
        transact(&*self.store, move |txn| {
            let Some(record) = read::<CredentialRecord>(txn, &key_of(&id))? else { return Ok(None) };
            audited(txn, "credential.delete", &record, &by, &reason, now)?;
            txn.delete(key_of(&id));
            Ok(Some(record))
        })
        .await
    }

    /// Exchanges a token for one of another key, unless the credential was set meanwhile; whether it was exchanged.
    ///
    /// # Errors
    /// As [`audit::append`].
    pub async fn rotate_credential(
        &self,
        old: CredentialRecord,
        token: String,
        now: Timestamp,
    ) -> Result<bool, CommitError> {
        transact(&*self.store, move |txn| {
            if read::<CredentialRecord>(txn, &key_of(&old.id))?.as_ref() != Some(&old) {
                return Ok(false);
            }
            let reason = "it is encrypted with the first key of [vault] now";
            audited(txn, "credential.rotate", &old, AUTOMATION, reason, now)?;
            txn.put(key_of(&old.id), to_bytes(&CredentialRecord { token: token.clone(), ..old.clone() })?);
            Ok(true)
        })
        .await
    }
}
