//! The mappings in force: those that people set while the daemon runs, before those of the config.
//!
//! They are read at the start, kept in memory, and changed there right after the commit that changes them.

use super::accept::{Intake, Options};
use crate::model::{Matcher, RunbookId};
use crate::routing::Mapping;
use crate::store::records::mapping::{self, MAX_MAPPING, MAX_MAPPINGS, MappingRecord};
use crate::store::records::{Records, to_bytes, transact};
use crate::store::{CommitError, ReadError};
use std::sync::{Arc, PoisonError};

/// A mapping that a person set.
#[derive(Debug, Clone)]
pub struct SetMapping {
    /// As it is kept.
    pub record: MappingRecord,
    /// As routing sees it.
    pub mapping: Mapping,
}

/// What a person wants.
#[derive(Debug, Clone)]
pub struct NewMapping {
    /// Its name; one that exists is replaced and keeps its place.
    pub name: String,
    /// All must hold; never empty.
    pub matchers: Vec<Matcher>,
    /// What it selects.
    pub runbook: RunbookId,
    /// Who wants it.
    pub by: String,
    /// Why; empty where they did not say.
    pub reason: String,
}

/// Why a mapping was not changed.
#[derive(Debug, thiserror::Error)]
pub enum MappingError {
    /// No such runbook.
    #[error("there is no runbook {0}")]
    UnknownRunbook(RunbookId),
    /// It takes too much room.
    #[error("with its reason it takes {0} bytes, at most {MAX_MAPPING} are kept")]
    TooLarge(usize),
    /// There are too many.
    #[error("{MAX_MAPPINGS} mappings are set already: delete some, or write them into the config")]
    TooMany,
    /// Nobody set one of this name.
    #[error("nobody set a mapping {name:?}{}", if *.in_config { "; it stands in the config file" } else { "" })]
    Unknown {
        /// The name.
        name: String,
        /// Whether the config has one of that name.
        in_config: bool,
    },
    /// It could not be made durable.
    #[error(transparent)]
    Store(#[from] CommitError),
}

/// What is in force, to be exchanged as a whole.
#[derive(Debug, Clone)]
pub(super) struct InForce {
    /// With the mappings of both.
    pub(super) options: Arc<Options>,
    /// Those that people set, in order.
    pub(super) set: Arc<Vec<SetMapping>>,
}

impl InForce {
    pub(super) fn of(options: Options) -> Self {
        Self { options: Arc::new(options), set: Arc::default() }
    }

    /// Exchanges the options, whose mappings are only the config's.
    pub(super) fn reconfigure(&mut self, options: Options) {
        *self = Self::of(options).with(Arc::clone(&self.set));
    }

    /// The options that would be in force if these were the config's.
    pub(super) fn instead(self, options: Options) -> Arc<Options> {
        Self::of(options).with(self.set).options
    }

    /// Exchanges what people set.
    pub(super) fn put(&mut self, set: Vec<SetMapping>) {
        let mut options = Options::clone(&self.options);
        options.rules.mappings.drain(..self.set.len());
        *self = Self::of(options).with(Arc::new(set));
    }

    fn with(self, set: Arc<Vec<SetMapping>>) -> Self {
        let mut options = Options::clone(&self.options);
        options.rules.mappings.splice(0..0, set.iter().map(|set| set.mapping.clone()));
        Self { options: Arc::new(options), set }
    }
}

impl SetMapping {
    fn read(record: MappingRecord) -> Result<Self, ReadError> {
        let matchers = record.matchers.iter().map(|text| Matcher::parse(text)).collect::<Result<_, _>>();
        let matchers = matchers.map_err(|error| ReadError::Damaged {
            key: format!("mapping {:?}", record.name),
            why: error.to_string(),
        })?;
        let mapping = Mapping { name: record.name.clone(), matchers, runbook: record.runbook.clone() };
        Ok(Self { record, mapping })
    }
}

impl Intake {
    /// Puts the stored mappings in force; how many there are.
    ///
    /// # Errors
    /// What the store says; then alerts would be routed otherwise than people ordered.
    pub async fn load_mappings(&self) -> Result<usize, ReadError> {
        let records = Records::new(Arc::clone(&self.store)).mappings().await?;
        let set = records.into_iter().map(SetMapping::read).collect::<Result<Vec<_>, _>>()?;
        let count = set.len();
        self.put_in_force(set);
        self.warn_of_lost_mappings();
        Ok(count)
    }

    /// Says which of them lead to no runbook: the alerts they take start nothing. Those of the config are refused then.
    pub(super) fn warn_of_lost_mappings(&self) {
        let library = Arc::clone(&self.library.read().unwrap_or_else(PoisonError::into_inner));
        for set in &*self.in_force().set {
            if let Some(problem) = library.lacks(&set.record.runbook) {
                tracing::warn!(
                    mapping = set.record.name,
                    by = set.record.by,
                    problem,
                    "a mapping that was set starts nothing"
                );
            }
        }
    }

    /// What people set, and behind it the mappings of the config, each in order.
    pub fn mappings(&self) -> (Arc<Vec<SetMapping>>, Vec<Mapping>) {
        let in_force = self.in_force();
        let of_config = in_force.options.rules.mappings[in_force.set.len()..].to_vec();
        (in_force.set, of_config)
    }

    /// Sets a mapping, durably, for the next alert.
    ///
    /// # Errors
    /// [`MappingError`]; then nothing is changed.
    pub async fn set_mapping(&self, new: NewMapping) -> Result<SetMapping, MappingError> {
        let NewMapping { name, matchers, runbook, by, reason } = new;
        let _alone = self.changing.lock().await;
        let known = self.library.read().unwrap_or_else(PoisonError::into_inner).get(&runbook).is_some();
        if !known {
            return Err(MappingError::UnknownRunbook(runbook));
        }
        let mut set = Vec::clone(&self.in_force().set);
        let place = set.iter().position(|set| set.record.name == name);
        if place.is_none() && set.len() >= MAX_MAPPINGS {
            return Err(MappingError::TooMany);
        }
        let record = MappingRecord {
            matchers: matchers.iter().map(ToString::to_string).collect(),
            order: set.last().map_or(1, |last| last.record.order + 1),
            at: self.clock.now(),
            name,
            runbook,
            by,
            reason,
        };
        let size = to_bytes(&record)?.len();
        if size > MAX_MAPPING {
            return Err(MappingError::TooLarge(size));
        }
        let record = transact(&*self.store, move |txn| mapping::put(txn, record.clone())).await?;
        let mapping = Mapping { name: record.name.clone(), matchers, runbook: record.runbook.clone() };
        let new = SetMapping { record, mapping };
        match place {
            Some(place) => set[place] = new.clone(),
            None => set.push(new.clone()),
        }
        self.put_in_force(set);
        Ok(new)
    }

    /// Deletes a mapping that was set, durably, for the next alert; as it was.
    ///
    /// # Errors
    /// [`MappingError`]; then nothing is changed.
    pub async fn delete_mapping(
        &self,
        name: &str,
        by: &str,
        reason: &str,
    ) -> Result<SetMapping, MappingError> {
        let _alone = self.changing.lock().await;
        let mut set = Vec::clone(&self.in_force().set);
        let Some(place) = set.iter().position(|set| set.record.name == name) else {
            let in_config = self.mappings().1.iter().any(|mapping| mapping.name == name);
            return Err(MappingError::Unknown { name: name.chars().take(128).collect(), in_config });
        };
        let (of, by, reason, now) = (name.to_owned(), by.to_owned(), reason.to_owned(), self.clock.now());
        transact(&*self.store, move |txn| mapping::delete(txn, &of, &by, &reason, now)).await?;
        let old = set.remove(place);
        self.put_in_force(set);
        Ok(old)
    }
}
