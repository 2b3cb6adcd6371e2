//! Keeps the runbooks live: reads the directory, numbers versions, swaps the library.

use crate::document::{Problem, Severity};
use crate::model::{Clock, RunbookId};
use crate::routing::{Library, Listed};
use crate::runbook::{self, MAX_FILE, Pinned};
use crate::store::records::Records;
use crate::telemetry::{Metrics, StepKind};
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

/// The live runbooks and the files that could not be read.
pub(super) struct Shelf {
    pub(super) library: Arc<RwLock<Arc<Library>>>,
    pub(super) broken: Arc<RwLock<BTreeMap<RunbookId, Vec<Problem>>>>,
    dir: PathBuf,
    records: Records,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

/// One file of the directory.
struct Found {
    file_name: String,
    text: Result<String, String>,
}

impl Shelf {
    pub(super) fn new(dir: &Path, records: Records, clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        Self { library: Arc::default(), broken: Arc::default(), dir: dir.to_owned(), records, clock, metrics }
    }

    /// Reads the directory and puts what is good in force. True when every file is good.
    ///
    /// A bad file keeps its last good version, and never stops the others; an unreadable directory changes
    /// nothing.
    pub(super) async fn refresh(&self) -> bool {
        let dir = self.dir.clone();
        let found = tokio::task::spawn_blocking(move || read_dir(&dir)).await;
        let found = match found {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                tracing::error!(dir = %self.dir.display(), %error, "the runbooks directory cannot be read; what is live stays");
                return false;
            }
            Err(error) => {
                tracing::error!(%error, "reading the runbooks directory failed; what is live stays");
                return false;
            }
        };
        let before = Arc::clone(&self.library.read().unwrap_or_else(PoisonError::into_inner));
        let (mut listed, mut broken) = (BTreeMap::new(), BTreeMap::new());
        for (id, file) in found {
            let last = before.get(&id).cloned();
            match self.read(&id, file, last.as_ref()).await {
                Ok(pinned) => {
                    self.register(&pinned);
                    listed.insert(id, Listed::Good(pinned));
                }
                Err(problems) => {
                    self.complain(&id, &problems);
                    listed.insert(id.clone(), last.unwrap_or(Listed::Broken));
                    broken.insert(id, problems);
                }
            }
        }
        let all_good = broken.is_empty();
        *self.library.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Library::new(listed));
        *self.broken.write().unwrap_or_else(PoisonError::into_inner) = broken;
        all_good
    }

    async fn read(
        &self,
        id: &RunbookId,
        file: Found,
        last: Option<&Listed>,
    ) -> Result<Arc<Pinned>, Vec<Problem>> {
        let Found { file_name, text } = file;
        let outside = |message: String| vec![whole_file(&file_name, message)];
        let text = text.map_err(outside)?;
        let parsed = runbook::parse(id, &file_name, &text);
        if let Some(Listed::Good(last)) = last
            && last.hash == parsed.hash
        {
            return Ok(Arc::clone(last));
        }
        let Some(runbook) = parsed.runbook else { return Err(parsed.problems) };
        for warning in &parsed.problems {
            tracing::warn!(runbook = %id, "{warning}");
        }
        let now = self.clock.now();
        let version = self.records.version_of(id, &parsed.hash, &file_name, &text, now).await;
        let version = version.map_err(|error| {
            vec![whole_file(&file_name, format!("its version cannot be stored: {error}"))]
        })?;
        tracing::info!(runbook = %id, version, mode = runbook.mode.as_str(), "runbook loaded");
        Ok(Arc::new(Pinned { runbook, version, hash: parsed.hash, file_name }))
    }

    /// Says what is wrong once, not at every reading.
    fn complain(&self, id: &RunbookId, problems: &[Problem]) {
        let known = self.broken.read().unwrap_or_else(PoisonError::into_inner);
        if known.get(id).is_some_and(|known| known == problems) {
            return;
        }
        for problem in problems.iter().filter(|problem| problem.severity == Severity::Error) {
            tracing::error!(runbook = %id, "{problem}");
        }
    }

    fn register(&self, pinned: &Pinned) {
        let id = &pinned.runbook.id;
        self.metrics.register_runbook(id);
        for kind in pinned.runbook.steps.iter().filter_map(|step| StepKind::parse(step.kind.as_str())) {
            self.metrics.register_step(id, kind);
        }
    }
}

fn whole_file(file: &str, message: String) -> Problem {
    Problem {
        file: file.into(),
        span: 0..0,
        line: 1,
        column: 1,
        severity: Severity::Error,
        path: String::new(),
        message,
        help: String::new(),
    }
}

/// Every `<id>.toml` of the directory. Other names are not runbooks.
fn read_dir(dir: &Path) -> std::io::Result<BTreeMap<RunbookId, Found>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let Some(file_name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let Some(Ok(id)) = file_name.strip_suffix(".toml").map(RunbookId::new) else { continue };
        found.insert(id, Found { file_name: file_name.to_owned(), text: read_file(&path) });
    }
    Ok(found)
}

fn read_file(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let limit = MAX_FILE as u64;
    let read = std::fs::File::open(path).and_then(|file| {
        if !file.metadata()?.is_file() {
            return Err(std::io::Error::other("it is not a regular file"));
        }
        file.take(limit + 1).read_to_end(&mut bytes)
    });
    read.map_err(|error| format!("the file cannot be read: {error}"))?;
    if bytes.len() as u64 > limit {
        return Err(format!("the file is larger than {limit} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "the file is not UTF-8 text".to_owned())
}
