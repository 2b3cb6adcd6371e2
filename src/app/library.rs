//! Keeps the runbooks live: what the catalogue reads becomes the library that routing goes by.

use super::check::unknown_profile;
use crate::catalogue::{self, Catalogue, Change, ChangeKind, Live, Snapshot, Versions};
use crate::config::Config;
use crate::document::{Problem, Severity};
use crate::guard::Profiles;
use crate::model::{Clock, RunbookId};
use crate::routing::{Library, Listed};
use crate::runbook::links::{self, Calls};
use crate::runbook::{self, Links, Pinned, Runbook};
use crate::store::records::Records;
use crate::telemetry::{Metrics, StepKind};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

/// The live runbooks and the files that could not be read.
pub(super) struct Shelf {
    pub(super) library: Arc<RwLock<Arc<Library>>>,
    pub(super) broken: Arc<RwLock<BTreeMap<RunbookId, Vec<Problem>>>>,
    dir: PathBuf,
    catalogue: Catalogue<Shelved>,
    numbers: Numbers,
    /// `None` for one that is only looked at, and then put away: nobody is told of it.
    metrics: Option<Metrics>,
    /// The breaker profiles in force, to complain of a runbook that names another.
    profiles: RwLock<Profiles>,
}

/// A runbook, and where its file speaks of others.
struct Shelved {
    runbook: Runbook,
    links: Links,
}

/// The store numbers the versions.
struct Numbers {
    records: Records,
    clock: Arc<dyn Clock>,
    /// Whether it only says which number a version would have.
    peeks: bool,
}

impl Numbers {
    async fn peek(&self, id: &RunbookId, hash: &str) -> Result<u64, String> {
        let stored = self.records.versions(id).await.map_err(|error| error.to_string())?;
        let same = stored.iter().find(|stored| stored.hash == hash).map(|stored| stored.version);
        Ok(same.unwrap_or_else(|| stored.iter().map(|stored| stored.version).max().unwrap_or(0) + 1))
    }
}

/// What makes another shelf of the same directory.
#[derive(Clone)]
pub(super) struct Origin {
    library: Arc<RwLock<Arc<Library>>>,
    dir: PathBuf,
    records: Records,
    clock: Arc<dyn Clock>,
}

impl Origin {
    /// The runbooks that a reload would put in force now, and whose files are not good. Nothing is put in force or
    /// kept.
    pub(super) async fn would_be(&self, profiles: &Profiles) -> (Arc<Library>, Vec<RunbookId>) {
        let Self { library, dir, records, clock } = self.clone();
        let current = Arc::clone(&library.read().unwrap_or_else(PoisonError::into_inner));
        let shelf = Shelf {
            library: Arc::new(RwLock::new(current)),
            broken: Arc::default(),
            dir,
            catalogue: Catalogue::new(shelved),
            numbers: Numbers { records, clock, peeks: true },
            metrics: None,
            profiles: RwLock::new(profiles.clone()),
        };
        shelf.refresh().await;
        let broken = shelf.broken.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect();
        let library = Arc::clone(&shelf.library.read().unwrap_or_else(PoisonError::into_inner));
        (library, broken)
    }
}

fn shelved(id: &RunbookId, file_name: &str, text: &str) -> catalogue::Parsed<Shelved> {
    let runbook::Parsed { runbook, problems, hash, links } = runbook::parse(id, file_name, text);
    let runbook = runbook.map(|runbook| Shelved { runbook, links });
    catalogue::Parsed { runbook, problems, hash }
}

impl Versions for Numbers {
    fn version_of(&self, id: &RunbookId, hash: &str, text: &str) -> BoxFuture<'_, Result<u64, String>> {
        let (id, hash, text) = (id.clone(), hash.to_owned(), text.to_owned());
        async move {
            if self.peeks {
                return self.peek(&id, &hash).await;
            }
            let version =
                self.records.version_of(&id, &hash, &format!("{id}.toml"), &text, self.clock.now()).await;
            version.map_err(|error| error.to_string())
        }
        .boxed()
    }
}

impl Shelf {
    pub(super) fn new(config: &Config, records: Records, clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        Self {
            library: Arc::default(),
            broken: Arc::default(),
            dir: config.runbooks.dir.clone(),
            catalogue: Catalogue::new(shelved),
            numbers: Numbers { records, clock, peeks: false },
            metrics: Some(metrics),
            profiles: RwLock::new(config.breakers.clone()),
        }
    }

    /// What makes another one like it.
    pub(super) fn origin(&self) -> Origin {
        Origin {
            library: Arc::clone(&self.library),
            dir: self.dir.clone(),
            records: self.numbers.records.clone(),
            clock: Arc::clone(&self.numbers.clock),
        }
    }

    /// Puts other breaker profiles in force.
    pub(super) fn adopt(&self, profiles: &Profiles) {
        *self.profiles.write().unwrap_or_else(PoisonError::into_inner) = profiles.clone();
    }

    /// Reads the directory and puts what is good in force. True when every file is good.
    ///
    /// A bad file keeps its last good version, and never stops the others; an unreadable directory changes
    /// nothing.
    pub(super) async fn refresh(&self) -> bool {
        let dir = self.dir.clone();
        let files = match tokio::task::spawn_blocking(move || catalogue::scan(&dir)).await {
            Ok(Ok(files)) => files,
            Ok(Err(error)) => {
                tracing::error!(%error, "the runbooks directory cannot be read; what is live stays");
                return false;
            }
            Err(error) => {
                tracing::error!(%error, "reading the runbooks directory failed; what is live stays");
                return false;
            }
        };
        let changes = self.catalogue.apply(files, &self.numbers).await;
        if self.metrics.is_some() {
            changes.iter().for_each(tell);
        }
        self.put_in_force().await
    }

    /// What has not changed is taken over as it is: this runs every half minute, and mostly for nothing.
    async fn put_in_force(&self) -> bool {
        let snapshot = self.catalogue.snapshot();
        let before = Arc::clone(&self.library.read().unwrap_or_else(PoisonError::into_inner));
        let mut broken = held(&snapshot);
        if self.metrics.is_some() {
            self.tell_held(&broken);
        }
        let mut listed: BTreeMap<RunbookId, Listed> = BTreeMap::new();
        for (id, live) in snapshot.live().filter(|(id, _)| !broken.contains_key(*id)) {
            let same = before.get(id).filter(|listed| is_version(listed, live.version, &live.hash));
            listed.insert(id.clone(), same.cloned().unwrap_or_else(|| self.pin(id, live)));
        }
        if !broken.is_empty() {
            self.list_held(&snapshot, broken.keys(), &before, &mut listed).await;
        }
        for (id, problems) in snapshot.broken() {
            if !listed.contains_key(id) {
                let known = before.get(id).cloned();
                listed.insert(
                    id.clone(),
                    match known {
                        Some(known) => known,
                        None => self.last_stored(id, None).await,
                    },
                );
            }
            broken.insert(id.clone(), problems.problems.clone());
        }
        let all_good = broken.is_empty();
        *self.library.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Library::new(listed));
        *self.broken.write().unwrap_or_else(PoisonError::into_inner) = broken;
        all_good
    }

    /// The last version of each `held` runbook whose calls can be made: the one in force, or one an earlier
    /// life stored. Its newest version is the last choice, for those that others led into the circle.
    async fn list_held(
        &self,
        snapshot: &Snapshot<Shelved>,
        held: impl Iterator<Item = &RunbookId>,
        before: &Library,
        listed: &mut BTreeMap<RunbookId, Listed>,
    ) {
        let mut chosen = Vec::new();
        for id in held {
            let Some(live) = snapshot.get(id) else { continue };
            let choice = match before.get(id) {
                Some(known @ Listed::Good(_)) => known.clone(),
                _ => match self.last_stored(id, Some(&live.hash)).await {
                    Listed::Broken => Listed::Good(Arc::new(pinned(id, live))),
                    stored @ Listed::Good(_) => stored,
                },
            };
            chosen.push(id.clone());
            listed.insert(id.clone(), choice);
        }
        let calls_of = |listed: &Listed| match listed {
            Listed::Good(pinned) => Some(pinned.runbook.calls().cloned().collect()),
            Listed::Broken => None,
        };
        let calls: Calls =
            listed.iter().filter_map(|(id, listed)| Some((id.clone(), calls_of(listed)?))).collect();
        for fault in links::faults(&calls, &known(snapshot)) {
            if chosen.contains(&fault.caller) {
                listed.insert(fault.caller, Listed::Broken);
            }
        }
        for id in &chosen {
            if let Some(Listed::Good(pinned)) = listed.get(id) {
                self.register(pinned);
            }
        }
    }

    /// Says what is held now and was not before.
    fn tell_held(&self, held: &BTreeMap<RunbookId, Vec<Problem>>) {
        let before = self.broken.read().unwrap_or_else(PoisonError::into_inner);
        for (id, problems) in held.iter().filter(|(id, problems)| before.get(*id) != Some(*problems)) {
            for problem in problems {
                tracing::error!(runbook = %id, "{problem}");
            }
            tracing::error!(runbook = %id, "the runbook's calls cannot be made; its last good version stays in force");
        }
    }

    fn pin(&self, id: &RunbookId, live: &Live<Shelved>) -> Listed {
        let profiles = self.profiles.read().unwrap_or_else(PoisonError::into_inner).clone();
        let pinned = pinned(id, live);
        if self.metrics.is_none() {
            return Listed::Good(Arc::new(pinned));
        }
        if let Some(problem) = unknown_profile(&live.runbook.runbook, &live.runbook.links, &profiles) {
            tracing::warn!(runbook = %id, %problem, "the runbook's breaker goes by the profile default");
        }
        for warning in &live.warnings {
            tracing::warn!(runbook = %id, "{warning}");
        }
        self.register(&pinned);
        Listed::Good(Arc::new(pinned))
    }

    /// The last good version an earlier life stored of a file that is broken now, other than that of `but`.
    async fn last_stored(&self, id: &RunbookId, but: Option<&str>) -> Listed {
        let Ok(versions) = self.numbers.records.versions(id).await else { return Listed::Broken };
        let mut others = versions.into_iter().rev().filter(|stored| but != Some(stored.hash.as_str()));
        let Some(stored) = others.next() else { return Listed::Broken };
        let Some(runbook) = runbook::parse(id, &stored.file_name, &stored.text).runbook else {
            return Listed::Broken;
        };
        let pinned =
            Pinned { runbook, version: stored.version, hash: stored.hash, file_name: stored.file_name };
        self.register(&pinned);
        Listed::Good(Arc::new(pinned))
    }

    fn register(&self, pinned: &Pinned) {
        let (Some(metrics), id) = (&self.metrics, &pinned.runbook.id) else { return };
        metrics.register_runbook(id);
        for kind in pinned.runbook.steps.iter().filter_map(|step| StepKind::parse(step.kind.as_str())) {
            metrics.register_step(id, kind);
        }
    }
}

fn pinned(id: &RunbookId, live: &Live<Shelved>) -> Pinned {
    Pinned {
        runbook: live.runbook.runbook.clone(),
        version: live.version,
        hash: live.hash.clone(),
        file_name: format!("{id}.toml"),
    }
}

/// Every runbook that has a file, also one that cannot be read.
fn known(snapshot: &Snapshot<Shelved>) -> BTreeSet<RunbookId> {
    let broken = snapshot.broken().map(|(id, _)| id);
    snapshot.live().map(|(id, _)| id).chain(broken).cloned().collect()
}

/// The runbooks whose calls cannot be made: to themselves by others, to none, or too deep.
fn held(snapshot: &Snapshot<Shelved>) -> BTreeMap<RunbookId, Vec<Problem>> {
    let calls: Calls = snapshot
        .live()
        .map(|(id, live)| (id.clone(), live.runbook.runbook.calls().cloned().collect()))
        .collect();
    let mut held: BTreeMap<RunbookId, Vec<Problem>> = BTreeMap::new();
    for fault in links::faults(&calls, &known(snapshot)) {
        let live = snapshot.get(&fault.caller);
        let Some(place) = live.and_then(|live| live.runbook.links.calls.get(fault.call)) else { continue };
        let problem = fault.problem(place);
        held.entry(fault.caller).or_default().push(problem);
    }
    held
}

fn is_version(listed: &Listed, version: u64, hash: &str) -> bool {
    matches!(listed, Listed::Good(pinned) if pinned.version == version && pinned.hash == hash)
}

fn tell(change: &Change) {
    let runbook = change.id.as_str();
    match &change.kind {
        ChangeKind::Broke(problems) => {
            for problem in problems.iter().filter(|problem| problem.severity == Severity::Error) {
                tracing::error!(runbook, "{problem}");
            }
            tracing::error!(runbook, "the runbook's file is broken; its last good version stays in force");
        }
        ChangeKind::Removed => tracing::info!(runbook, "runbook removed"),
        kind => tracing::info!(runbook, change = ?kind, "runbook loaded"),
    }
}
