//! An intake without a network: bodies in, what is stored out, by a clock that stands still.
//!
//! May import: the library. Must never: decide what is right.

use runbookd::guard::{Board, Profiles, Settings};
use runbookd::intake::{Announcement, Intake, IntakeError, Options};
use runbookd::model::{Clock, Decision, Labels, ManualClock, RunbookId, Timestamp};
use runbookd::routing::{Library, Listed, Rules, Source};
use runbookd::runbook::{self, Pinned};
use runbookd::store::records::QueueCount;
use runbookd::store::records::{DecisionFilter, ExecutionFilter, Header, Records};
use runbookd::store::{Ids, MemoryStore, Pair, Scan, Store};
use runbookd::telemetry::{Build, Metrics};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::Duration;

/// An intake and what it writes to.
pub(super) struct Bench {
    pub(super) clock: Arc<ManualClock>,
    pub(super) intake: Arc<Intake>,
    pub(super) records: Records,
    pub(super) queue: Arc<QueueCount>,
    pub(super) board: Arc<Board>,
}

impl Bench {
    /// With these runbooks, in memory.
    pub(super) fn new(library: Library, options: Options) -> Self {
        Self::over(Arc::new(MemoryStore::new()), library, options)
    }

    /// With these runbooks, over this store.
    pub(super) fn over(store: Arc<dyn Store>, library: Library, options: Options) -> Self {
        let clock = Arc::new(ManualClock::new(at("2026-11-21T12:00:00Z")));
        let (queue, board) = (Arc::new(QueueCount::default()), Arc::new(Board::default()));
        let intake = Intake::new(
            Arc::clone(&store),
            Arc::clone(&clock) as Arc<dyn Clock>,
            Arc::new(Ids::after(None)),
            Arc::new(RwLock::new(Arc::new(library))),
            options,
            Arc::clone(&queue),
            Arc::default(),
            Metrics::new(&Build { version: "0", revision: "test" }, clock.now()),
            Arc::clone(&board),
        );
        Self { clock, intake: Arc::new(intake), records: Records::new(store), queue, board }
    }

    /// Sets the clock.
    pub(super) fn set(&self, now: Timestamp) {
        self.clock.advance(now.as_millisecond() - self.clock.now().as_millisecond());
    }

    /// Delivers a body.
    pub(super) async fn post(&self, body: &[u8]) -> Result<Vec<Announcement>, IntakeError> {
        self.intake.accept(body).await.map(|accepted| accepted.decisions)
    }

    /// Delivers one element, and gives what was announced of it.
    pub(super) async fn one(&self, element: &Value) -> Announcement {
        let body = json!({ "alerts": [element] }).to_string();
        self.post(body.as_bytes()).await.unwrap().remove(0)
    }

    /// Every decision, newest first, read in pages of `limit`.
    pub(super) async fn decisions(&self, limit: usize) -> Vec<Decision> {
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let page =
                self.records.decisions(&DecisionFilter::default(), cursor.as_deref(), limit).await.unwrap();
            assert!(page.items.len() <= limit);
            all.extend(page.items);
            match page.next_cursor {
                Some(next) => cursor = Some(next),
                None => return all,
            }
        }
    }

    /// Every execution, newest first.
    pub(super) async fn executions(&self) -> Vec<Header> {
        let page = self.records.executions(&ExecutionFilter::default(), None, 100_000).await.unwrap();
        assert_eq!(page.next_cursor, None);
        page.items
    }

    /// Everything that is stored.
    pub(super) async fn dump(&self) -> Vec<Pair> {
        let all = Scan { prefix: Vec::new(), after: None, reverse: false, limit: usize::MAX };
        self.records.store().scan(all).await.unwrap()
    }
}

/// A time.
pub(super) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The options the program has by default, with the guards off that count.
pub(super) fn options() -> Options {
    Options {
        rules: Rules {
            mappings: Vec::new(),
            order: vec![Source::Config, Source::Annotation, Source::Runbook],
        },
        episode_ttl: Duration::from_secs(24 * 3600),
        queue_deadline: Duration::from_secs(600),
        queue_limit: 10_000,
        breakers: Profiles::default(),
        guard: Settings::off(),
        storm: None,
        freezes: Vec::new(),
        has_alertmanager: false,
        instance: "test".to_owned(),
    }
}

/// A runbook for each of these alert names, in mode auto, for the label `instance`.
pub(super) fn acting_on(alertnames: &[&str]) -> Library {
    let text = format!(
        "title = \"Act\"\nmode = \"auto\"\nalerts = {alertnames:?}\ntarget = \"{{{{ labels.instance }}}}\"\n\
         [[steps]]\nid = \"act\"\ncommand = {{ program = \"true\" }}\n"
    );
    Library::new([listed("act", &text)].into())
}

/// The runbooks of a directory; a file with an error in it is a broken one.
pub(super) fn library(dir: &Path) -> Library {
    let files = files(dir, "toml");
    let runbooks: BTreeMap<_, _> = files.iter().map(|(id, path)| listed(id, &read(path))).collect();
    assert!(!runbooks.is_empty(), "{} has no runbooks", dir.display());
    Library::new(runbooks)
}

/// A runbook with this text.
pub(super) fn listed(id: &str, text: &str) -> (RunbookId, Listed) {
    let id = RunbookId::new(id).unwrap();
    let file_name = format!("{id}.toml");
    let parsed = runbook::parse(&id, &file_name, text);
    let listed = parsed.runbook.map_or(Listed::Broken, |runbook| {
        Listed::Good(Arc::new(Pinned { runbook, version: 1, hash: parsed.hash, file_name }))
    });
    (id, listed)
}

/// A directory of the corpus.
pub(super) fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name)
}

/// The files of `dir` with this extension, by stem, in order.
pub(super) fn files(dir: &Path, extension: &str) -> BTreeMap<String, PathBuf> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let wanted = paths.filter(|path| path.extension().is_some_and(|found| found == extension));
    wanted.map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), path)).collect()
}

/// A file's text.
pub(super) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A firing alert, as an element of a body.
pub(super) fn firing(alertname: &str, instance: &str, starts_at: &str) -> Value {
    let labels: Labels = [("alertname", alertname), ("instance", instance)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    json!({ "status": "firing", "labels": labels, "startsAt": starts_at, "endsAt": "0001-01-01T00:00:00Z" })
}
