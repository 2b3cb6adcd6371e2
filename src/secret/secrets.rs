//! Every secret there is while the daemon runs: those of the config, and the credentials that people stored.
//!
//! Exchanged as a whole at a reload and when a credential changes. May import: `model`. Must never: forget at once
//! what was a secret until now, because a step that began with it may still print it.

use super::Redactor;
use crate::model::Secret;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// How many secrets that were replaced are still taken out of what is written.
const MAX_RETIRED: usize = 64;

/// Why there is no secret of a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// Nobody gave one.
    #[error(
        "there is no secret {0:?}: add a section [secrets.{0}] to the config, or store a credential of this name"
    )]
    Unknown(String),
    /// It is stored, and cannot be opened.
    #[error(
        "the credential {0:?} is stored, but no key of [vault] opens it: put the old key back, or store it anew"
    )]
    Sealed(String),
}

/// The secrets by name, and the redactor of all of them. Clones share what they know.
#[derive(Clone, Default)]
pub struct Secrets(Arc<RwLock<Arc<Known>>>);

#[derive(Default, Clone)]
struct Known {
    /// `[secrets.NAME]`
    of_config: BTreeMap<String, Secret>,
    /// Everything secret in the config, named or not.
    hidden: Vec<Secret>,
    /// Credentials; `None` where no key opens one.
    stored: BTreeMap<String, Option<Secret>>,
    retired: Vec<Secret>,
    redactor: Redactor,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").field("names", &self.names()).finish_non_exhaustive()
    }
}

impl Known {
    fn all(&self) -> impl Iterator<Item = &Secret> {
        self.hidden.iter().chain(self.of_config.values()).chain(self.stored.values().flatten())
    }
}

impl Secrets {
    /// Those of a config: by name, and whatever else in it is secret.
    pub fn of_config(named: BTreeMap<String, Secret>, hidden: Vec<Secret>) -> Self {
        let secrets = Self::default();
        secrets.replace_config(named, hidden);
        secrets
    }

    fn known(&self) -> Arc<Known> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Exchanges what the config gives.
    pub fn replace_config(&self, named: BTreeMap<String, Secret>, hidden: Vec<Secret>) {
        self.change(|known| {
            known.of_config = named;
            known.hidden = hidden;
        });
    }

    /// Exchanges the credentials; `None` stands for one that no key opens.
    pub fn replace_stored(&self, stored: BTreeMap<String, Option<Secret>>) {
        self.change(|known| known.stored = stored);
    }

    /// Adds, replaces or removes one credential.
    pub fn put_stored(&self, name: &str, secret: Option<Secret>) {
        self.change(|known| {
            match secret {
                Some(secret) => known.stored.insert(name.to_owned(), Some(secret)),
                None => known.stored.remove(name),
            };
        });
    }

    fn change(&self, how: impl FnOnce(&mut Known)) {
        let mut place = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let before = Arc::clone(&place);
        let mut known = Known::clone(&before);
        how(&mut known);
        let gone: Vec<Secret> =
            before.all().filter(|old| !known.all().any(|new| new == *old)).cloned().collect();
        known.retired.extend(gone);
        let too_many = known.retired.len().saturating_sub(MAX_RETIRED);
        known.retired.drain(..too_many);
        known.redactor = Redactor::new(known.all().chain(&known.retired));
        *place = Arc::new(known);
    }

    /// The secret called `name`; the config's wins.
    ///
    /// # Errors
    /// [`Unavailable`]
    pub fn get(&self, name: &str) -> Result<Secret, Unavailable> {
        let known = self.known();
        match (known.of_config.get(name), known.stored.get(name)) {
            (Some(secret), _) | (None, Some(Some(secret))) => Ok(secret.clone()),
            (None, Some(None)) => Err(Unavailable::Sealed(name.to_owned())),
            (None, None) => Err(Unavailable::Unknown(name.to_owned())),
        }
    }

    /// Whether the config has one of this name.
    pub fn is_of_config(&self, name: &str) -> bool {
        self.known().of_config.contains_key(name)
    }

    /// Whether a credential of this name can be opened.
    pub fn is_open(&self, name: &str) -> bool {
        self.known().stored.get(name).is_some_and(Option::is_some)
    }

    /// All names.
    pub fn names(&self) -> Vec<String> {
        let known = self.known();
        known.of_config.keys().chain(known.stored.keys()).cloned().collect()
    }

    /// What takes all of them out of what is written, as they are now.
    pub fn redactor(&self) -> Redactor {
        self.known().redactor.clone()
    }

    /// `text` without any of them.
    pub fn hide(&self, text: &str) -> String {
        self.redactor().text(text).into_owned()
    }
}
