//! Tests of `catalogue`.

use super::*;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A text is a runbook unless it holds the word `bad`; its hash is itself.
fn parse(_: &RunbookId, file_name: &str, text: &str) -> Parsed<String> {
    let hash = text.trim_end().to_owned();
    if let Some(at) = text.find("bad") {
        let problem =
            Problems::new(file_name, text).place(at..at + 3, "").problem(Severity::Error, "bad", "");
        return Parsed { runbook: None, problems: vec![problem], hash };
    }
    Parsed { runbook: Some(text.to_owned()), problems: Vec::new(), hash }
}

/// Versions as the store keeps them, and whether it is out of order.
#[derive(Default)]
struct Book {
    hashes: Mutex<BTreeMap<String, Vec<String>>>,
    is_out_of_order: Mutex<bool>,
}

impl Versions for Book {
    fn version_of(&self, id: &RunbookId, hash: &str, _: &str) -> BoxFuture<'_, Result<u64, String>> {
        let (id, hash) = (id.to_string(), hash.to_owned());
        Box::pin(async move {
            tokio::task::yield_now().await;
            if *self.is_out_of_order.lock().unwrap() {
                return Err("the disk is full".to_owned());
            }
            let mut hashes = self.hashes.lock().unwrap();
            let known = hashes.entry(id).or_default();
            let at = known.iter().position(|old| *old == hash);
            let at = at.unwrap_or_else(|| {
                known.push(hash);
                known.len() - 1
            });
            Ok(at as u64 + 1)
        })
    }
}

/// A directory, its catalogue, and a shorthand for what changes.
struct Room {
    root: tempfile::TempDir,
    dir: PathBuf,
    catalogue: Catalogue<String>,
    book: Book,
}

impl Room {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("runbooks");
        fs::create_dir(&dir).unwrap();
        Self { root, dir, catalogue: Catalogue::new(parse), book: Book::default() }
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.dir.join(name), text).unwrap();
    }

    /// Scans and applies; each change as `id kind`.
    async fn look(&self) -> Vec<String> {
        let changes = self.catalogue.apply(scan(&self.dir).unwrap(), &self.book).await;
        changes.iter().map(|Change { id, kind }| format!("{id} {}", word(kind))).collect()
    }

    /// Version and text of the live runbook.
    fn live(&self, id: &str) -> Option<(u64, String)> {
        let id = RunbookId::new(id).unwrap();
        self.catalogue.snapshot().get(&id).map(|live| (live.version, live.runbook.clone()))
    }
}

fn word(kind: &ChangeKind) -> String {
    match kind {
        ChangeKind::Added => "added".to_owned(),
        ChangeKind::Updated => "updated".to_owned(),
        ChangeKind::Removed => "removed".to_owned(),
        ChangeKind::Repaired => "repaired".to_owned(),
        ChangeKind::Broke(problems) => {
            assert!(!problems.is_empty());
            format!("broke: {}", problems[0].message)
        }
    }
}

fn good(version: u64, text: &str) -> Option<(u64, String)> {
    Some((version, text.to_owned()))
}

#[tokio::test]
async fn a_bad_file_keeps_its_last_good_version_and_stops_no_other() {
    let room = Room::new();
    room.write("a.toml", "one");
    room.write("b.toml", "bad from the start");
    room.write("c.toml", "one");
    assert_eq!(room.look().await, ["a added", "b broke: bad", "c added"]);
    assert_eq!((room.live("a"), room.live("b")), (good(1, "one"), None));
    assert_eq!(room.look().await, [""; 0]);

    room.write("a.toml", "bad now");
    room.write("c.toml", "two");
    assert_eq!(room.look().await, ["a broke: bad", "c updated"]);
    assert_eq!((room.live("a"), room.live("c")), (good(1, "one"), good(2, "two")));
    let snapshot = room.catalogue.snapshot();
    let broken: Vec<_> = snapshot.broken().map(|(id, broken)| (id.as_str(), &*broken.text)).collect();
    assert_eq!(broken, [("a", "bad now"), ("b", "bad from the start")]);

    room.write("a.toml", "still bad");
    room.write("b.toml", "one");
    assert_eq!(room.look().await, ["a broke: bad", "b repaired"]);
    room.write("a.toml", "three");
    assert_eq!(room.look().await, ["a repaired"]);
    assert_eq!(room.live("a"), good(2, "three"));
    room.write("a.toml", "one");
    assert_eq!(room.look().await, ["a updated"]);
    assert_eq!(room.live("a"), good(1, "one"), "the same content is the same version");
    assert_eq!(room.catalogue.snapshot().broken().count(), 0);
}

#[tokio::test]
async fn a_removed_file_removes_its_runbook_and_a_taken_snapshot_stays() {
    let room = Room::new();
    room.write("a.toml", "one");
    room.write("b.toml", "bad");
    room.look().await;
    let before = room.catalogue.snapshot();
    fs::remove_file(room.dir.join("a.toml")).unwrap();
    fs::remove_file(room.dir.join("b.toml")).unwrap();
    assert_eq!(room.look().await, ["a removed", "b removed"]);
    assert_eq!(room.live("a"), None);
    assert!(before.get(&RunbookId::new("a").unwrap()).is_some());
    assert_eq!(room.catalogue.snapshot().live().count(), 0);
}

#[tokio::test]
async fn a_directory_that_cannot_be_read_is_not_an_empty_one() {
    let room = Room::new();
    room.write("a.toml", "one");
    room.look().await;
    fs::remove_dir_all(&room.dir).unwrap();
    let error = scan(&room.dir).unwrap_err().to_string();
    assert!(error.starts_with("the runbook directory /"), "{error}");
    assert_eq!(room.live("a"), good(1, "one"));
}

#[tokio::test]
async fn a_version_that_cannot_be_recorded_is_tried_again() {
    let room = Room::new();
    room.write("a.toml", "one");
    room.look().await;
    *room.book.is_out_of_order.lock().unwrap() = true;
    room.write("a.toml", "two");
    assert_eq!(room.look().await, ["a broke: its version cannot be recorded: the disk is full"]);
    assert_eq!(room.look().await, [""; 0], "the same trouble is not news");
    assert_eq!(room.live("a"), good(1, "one"));
    *room.book.is_out_of_order.lock().unwrap() = false;
    assert_eq!(room.look().await, ["a repaired"]);
    assert_eq!(room.live("a"), good(2, "two"));
}

#[tokio::test]
async fn what_is_no_runbook_is_passed_over_and_what_cannot_be_read_is_broken() {
    let room = Room::new();
    room.write("a.toml", "one");
    room.write("utf.toml", b"title\nx \xff");
    room.write("huge.toml", "x".repeat(1 + usize::try_from(MAX_FILE).unwrap()));
    room.write("full.toml", "x".repeat(usize::try_from(MAX_FILE).unwrap()));
    for name in [".a.toml", "a.toml~", "a.test.toml", "README.md", "with blank.toml", ".toml", "toml"] {
        room.write(name, "bad");
    }
    fs::create_dir(room.dir.join("folder.toml")).unwrap();
    symlink("nowhere", room.dir.join("lost.toml")).unwrap();
    symlink("a.toml", room.dir.join("linked.toml")).unwrap();
    symlink("loop.toml", room.dir.join("loop.toml")).unwrap();
    let pipe = std::process::Command::new("mkfifo").arg(room.dir.join("pipe.toml")).status().unwrap();
    assert!(pipe.success());
    assert_eq!(
        room.look().await,
        [
            "a added",
            "full added",
            "huge broke: the file is larger than 1048576 bytes",
            "linked added",
            "loop broke: the file cannot be read: Too many levels of symbolic links (os error 40)",
            "lost broke: the file cannot be read: No such file or directory (os error 2)",
            "pipe broke: this is not a regular file",
            "utf broke: here the file is not UTF-8 text",
        ]
    );
    let snapshot = room.catalogue.snapshot();
    let utf = snapshot.entry(&RunbookId::new("utf").unwrap()).unwrap().broken.as_ref().unwrap();
    assert!(utf.problems[0].to_string().contains("utf.toml:2:3: here"), "{}", utf.problems[0]);
}

/// Waits for the watch and looks, until `is_done`; the period is too long to help.
async fn follow(room: &Room, watch: &Watch, is_done: impl Fn(&Room) -> bool) {
    let begin = Instant::now();
    while !is_done(room) {
        let woken = tokio::time::timeout(Duration::from_secs(10), watch.changed()).await;
        assert!(woken.is_ok() && begin.elapsed() < Duration::from_secs(20), "no wake-up for a change");
        if let Ok(files) = scan(&room.dir) {
            room.catalogue.apply(files, &room.book).await;
        }
    }
}

const LONG: Duration = Duration::from_secs(3600);

fn watch(dir: &Path) -> Watch {
    let pace = Pace { quiet: Duration::from_millis(20), at_most: Duration::from_millis(500), period: LONG };
    Watch::start(dir, pace).unwrap()
}

fn has(id: &'static str, expected: Option<(u64, String)>) -> impl Fn(&Room) -> bool {
    move |room| room.live(id) == expected
}

#[tokio::test]
async fn files_that_come_break_heal_and_go_are_followed() {
    let room = Room::new();
    let watch = watch(&room.dir);
    room.write("a.toml", "one");
    follow(&room, &watch, has("a", good(1, "one"))).await;
    room.write("a.toml", "bad");
    follow(&room, &watch, |room| room.catalogue.snapshot().broken().count() == 1).await;
    assert_eq!(room.live("a"), good(1, "one"));
    room.write("a.toml", "two");
    follow(&room, &watch, has("a", good(2, "two"))).await;
    fs::write(room.root.path().join("next"), "three").unwrap();
    fs::rename(room.root.path().join("next"), room.dir.join("a.toml")).unwrap();
    follow(&room, &watch, has("a", good(3, "three"))).await;
    fs::rename(room.dir.join("a.toml"), room.dir.join("b.toml")).unwrap();
    follow(&room, &watch, has("b", good(1, "three"))).await;
    assert_eq!(room.live("a"), None);
    fs::remove_file(room.dir.join("b.toml")).unwrap();
    follow(&room, &watch, has("b", None)).await;
}

#[tokio::test]
async fn a_config_map_that_is_swapped_is_followed() {
    let room = Room::new();
    let dir = &room.dir;
    let publish = |name: &str, text: &str| {
        fs::create_dir(dir.join(name)).unwrap();
        fs::write(dir.join(name).join("a.toml"), text).unwrap();
        symlink(name, dir.join("..data_tmp")).unwrap();
        fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
    };
    publish("..2026_1", "one");
    symlink("..data/a.toml", dir.join("a.toml")).unwrap();
    assert_eq!(room.look().await, ["a added"]);
    let watch = watch(dir);
    publish("..2026_2", "two");
    fs::remove_dir_all(dir.join("..2026_1")).unwrap();
    follow(&room, &watch, has("a", good(2, "two"))).await;
}

#[tokio::test]
async fn a_directory_that_comes_late_goes_and_is_replaced_is_followed() {
    let room = Room::new();
    fs::remove_dir(&room.dir).unwrap();
    let watch = watch(&room.dir);
    fs::create_dir(&room.dir).unwrap();
    room.write("a.toml", "one");
    follow(&room, &watch, has("a", good(1, "one"))).await;

    // Deleted and made again: often with the same inode number.
    fs::remove_dir_all(&room.dir).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(room.live("a"), good(1, "one"));
    fs::create_dir(&room.dir).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    room.write("a.toml", "two");
    follow(&room, &watch, has("a", good(2, "two"))).await;

    // Moved away, another in its place.
    let other = room.root.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("a.toml"), "three").unwrap();
    fs::rename(&room.dir, room.root.path().join("old")).unwrap();
    fs::rename(&other, &room.dir).unwrap();
    follow(&room, &watch, has("a", good(3, "three"))).await;
    room.write("a.toml", "four");
    follow(&room, &watch, has("a", good(4, "four"))).await;

    // A link to a release, swapped for the next.
    let release = |name: &str, text: &str| {
        fs::create_dir(room.root.path().join(name)).unwrap();
        fs::write(room.root.path().join(name).join("a.toml"), text).unwrap();
        symlink(name, room.root.path().join("link")).unwrap();
    };
    fs::rename(&room.dir, room.root.path().join("older")).unwrap();
    for (name, text, version) in [("r1", "five", 5), ("r2", "six", 6)] {
        release(name, text);
        fs::rename(room.root.path().join("link"), &room.dir).unwrap();
        follow(&room, &watch, has("a", good(version, text))).await;
    }
    room.write("a.toml", "seven");
    follow(&room, &watch, has("a", good(7, "seven"))).await;
}

#[tokio::test]
async fn many_files_at_once_are_all_followed_in_few_looks() {
    let room = Room::new();
    let watch = watch(&room.dir);
    for n in 0..500 {
        room.write(&format!("r{n}.toml"), if n % 10 == 0 { "bad" } else { "one" });
    }
    let looks = Mutex::new(0);
    follow(&room, &watch, |room| {
        *looks.lock().unwrap() += 1;
        let snapshot = room.catalogue.snapshot();
        (snapshot.live().count(), snapshot.broken().count()) == (450, 50)
    })
    .await;
    assert!(*looks.lock().unwrap() < 50, "{looks:?}");
}

#[tokio::test]
async fn looking_does_not_wake_the_looker() {
    let room = Room::new();
    let watch = watch(&room.dir);
    room.write("a.toml", "one");
    follow(&room, &watch, has("a", good(1, "one"))).await;
    // Whatever the write itself still caused may wake once more; reading may not, for ever.
    let mut wakes = 0;
    while tokio::time::timeout(Duration::from_millis(300), watch.changed()).await.is_ok() {
        room.look().await;
        wakes += 1;
        assert!(wakes < 5, "reading the directory wakes the watch");
    }
    fs::write(room.root.path().join("neighbour"), "x").unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(300), watch.changed()).await.is_err());
}

#[tokio::test]
async fn the_period_wakes_without_any_notice() {
    let root = tempfile::tempdir().unwrap();
    let pace = Pace { period: Duration::from_millis(50), ..Pace::default() };
    let watch = Watch::start(&root.path().join("no/such/directory"), pace).unwrap();
    for _ in 0..3 {
        assert!(tokio::time::timeout(Duration::from_secs(10), watch.changed()).await.is_ok());
    }
}

#[tokio::test]
async fn a_burst_without_end_is_cut() {
    let room = Room::new();
    let pace = Pace { quiet: Duration::from_millis(200), at_most: Duration::from_millis(600), period: LONG };
    let watch = Watch::start(&room.dir, pace).unwrap();
    let begin = Instant::now();
    let mut is_woken = false;
    while !is_woken && begin.elapsed() < Duration::from_secs(10) {
        room.write("a.toml", format!("{:?}", begin.elapsed()));
        is_woken = tokio::time::timeout(Duration::from_millis(10), watch.changed()).await.is_ok();
    }
    assert!(is_woken, "writing without a pause hides every change");
    assert!(begin.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn the_thread_ends_with_its_watch() {
    let room = Room::new();
    let watch = watch(&room.dir);
    let wake = Arc::downgrade(&watch.wake());
    drop(watch);
    let begin = Instant::now();
    while wake.strong_count() > 0 {
        assert!(begin.elapsed() < Duration::from_secs(10), "the thread lives on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
