//! The users of `--web.config.file`: names with bcrypt hashes, as every exporter of Prometheus takes them.
//!
//! bcrypt is slow on purpose, so it runs beside the async threads, a few at a time, and what it found is remembered by
//! a digest of what was asked, as the exporter toolkit does. An unknown name costs the same work as a known one. May
//! import: `auth` (who a user is), `model`. Must never: keep a password, or give a user more than reading.

use crate::auth::{Failure, Permission, Permissions, Principal, Via};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;
use ulid::Ulid;

/// Hashes computed at the same time: two cores of a guesser's work at most.
const AT_ONCE: usize = 2;
/// Answers remembered.
const REMEMBERED: usize = 100;
/// The longest credential looked at; bcrypt itself ends at 72 bytes of password.
const MAX_CREDENTIAL: usize = 1024;
/// One question: whether this is the password of this user.
pub(super) struct Asked {
    name: String,
    exists: bool,
    hash: String,
    password: Vec<u8>,
    digest: [u8; 32],
}

/// Who may read with a password.
pub struct Users {
    hashes: BTreeMap<String, String>,
    /// What an unknown name is compared with: a hash of somebody, so that it costs what a known name costs.
    decoy: String,
    known: Mutex<VecDeque<([u8; 32], bool)>>,
    slots: Arc<Semaphore>,
    /// Of this process only, so that what is remembered is worth nothing elsewhere.
    salt: [u8; 32],
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").field("names", &self.hashes.len()).finish_non_exhaustive()
    }
}

impl Users {
    /// These, by name. The hashes have been checked to be bcrypt's.
    pub fn new(hashes: BTreeMap<String, String>) -> Self {
        let salt = Sha256::digest(format!("{}{}", Ulid::generate(), Ulid::generate())).into();
        let decoy = hashes.values().next().cloned().unwrap_or_default();
        Self { hashes, decoy, known: Mutex::default(), slots: Arc::new(Semaphore::new(AT_ONCE)), salt }
    }

    /// Whether this `Authorization` header is meant for users.
    pub(super) fn is_meant(authorization: &[u8]) -> bool {
        authorization.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"basic "))
    }

    /// What this header asks.
    ///
    /// # Errors
    /// The [`Failure`], for one that cannot be read.
    pub(super) fn read(&self, authorization: &[u8]) -> Result<Asked, Failure> {
        let pair = authorization.get(6..).unwrap_or_default().trim_ascii();
        if pair.len() > MAX_CREDENTIAL {
            return Err(Failure::TooLong);
        }
        let pair = STANDARD.decode(pair).map_err(|_| Failure::Malformed)?;
        let colon = pair.iter().position(|byte| *byte == b':').ok_or(Failure::Malformed)?;
        let name = String::from_utf8(pair[..colon].to_vec()).map_err(|_| Failure::Malformed)?;
        let (hash, exists) = match self.hashes.get(&name) {
            Some(hash) => (hash, true),
            None => (&self.decoy, false),
        };
        let mut digest = Sha256::new();
        for part in [&self.salt[..], hash.as_bytes(), &pair] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        let digest = digest.finalize().into();
        Ok(Asked { name, exists, hash: hash.clone(), password: pair[colon + 1..].to_vec(), digest })
    }

    /// The answer, where it was computed lately.
    pub(super) fn remembered(&self, asked: &Asked) -> Option<Result<Principal, Failure>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.iter().find(|(other, _)| bool::from(other.ct_eq(&asked.digest)));
        found.map(|(_, right)| asked.answer(*right))
    }

    /// The answer.
    ///
    /// # Errors
    /// [`Failure::Credential`].
    pub(super) async fn compute(&self, asked: Asked) -> Result<Principal, Failure> {
        // Never closed. Whoever hangs up while waiting is forgotten.
        let slot = Arc::clone(&self.slots).acquire_owned().await.map_err(|_| Failure::Credential)?;
        let (password, hash) = (asked.password.clone(), asked.hash.clone());
        let work = tokio::task::spawn_blocking(move || {
            let right = bcrypt::verify(password, &hash).unwrap_or(false);
            drop(slot);
            right
        });
        let right = work.await.map_err(|_| Failure::Credential)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.pop_front();
        }
        known.push_back((asked.digest, right));
        asked.answer(right)
    }
}

impl Asked {
    fn answer(&self, right: bool) -> Result<Principal, Failure> {
        if right && self.exists { Ok(viewer(self.name.clone())) } else { Err(Failure::Credential) }
    }
}

fn viewer(name: String) -> Principal {
    // With a claim, so that nobody takes it for the caller of a server that is open to all.
    let claims = Map::from_iter([("sub".to_owned(), Value::String(name.clone()))]);
    Principal {
        subject: name,
        roles: vec!["viewer".to_owned()],
        permissions: Permissions::of(&[Permission::Read]),
        claims,
        via: Via::Password,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> Users {
        // The least cost, so that the tests are quick.
        let hash = bcrypt::hash_with_salt("right", 4, [7; 16]).unwrap().to_string();
        Users::new(BTreeMap::from([("ada".to_owned(), hash)]))
    }

    async fn check(users: &Users, authorization: &str) -> Result<Principal, Failure> {
        let asked = users.read(authorization.as_bytes())?;
        match users.remembered(&asked) {
            Some(answer) => answer,
            None => users.compute(asked).await,
        }
    }

    fn header(pair: &str) -> String {
        format!("Basic {}", STANDARD.encode(pair))
    }

    #[tokio::test]
    async fn a_user_with_the_right_password_may_read_and_nothing_else() {
        let users = users();
        for _ in 0..2 {
            let who = check(&users, &header("ada:right")).await.unwrap();
            assert_eq!((who.subject.as_str(), who.is_anonymous()), ("ada", false));
            assert_eq!(who.permissions, Permissions::of(&[Permission::Read]));
        }
        for (pair, failure) in [
            ("ada:wrong", Failure::Credential),
            ("ada:", Failure::Credential),
            ("bob:right", Failure::Credential),
            (":right", Failure::Credential),
            ("ada", Failure::Malformed),
        ] {
            for _ in 0..2 {
                assert_eq!(check(&users, &header(pair)).await.unwrap_err(), failure, "{pair}");
            }
        }
        assert_eq!(check(&users, "Basic !!!").await.unwrap_err(), Failure::Malformed);
        let long = header(&"x".repeat(2000));
        assert_eq!(check(&users, &long).await.unwrap_err(), Failure::TooLong);
        assert_eq!(users.known.lock().unwrap().len(), 5, "each question was computed once");
    }

    #[tokio::test]
    async fn what_is_remembered_is_bounded() {
        let users = users();
        for number in 0..REMEMBERED as u128 {
            users.known.lock().unwrap().push_back(([number as u8; 32], false));
        }
        assert!(check(&users, &header("ada:right")).await.is_ok());
        assert_eq!(users.known.lock().unwrap().len(), REMEMBERED);
    }
}
