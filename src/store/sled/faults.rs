//! What the disk, the operator and other processes can do to the embedded store, one test per fault.
//!
//! May import: whatever tests need. Must never: pass where the fault could not be made; then the test fails and says so.

use std::os::unix::fs::FileExt;
use std::process::Command;

use super::open::WATERMARK;
use super::*;
use crate::store::contract::{all, long, put, work};

fn open(dir: &Path) -> Result<SledStore, OpenError> {
    SledStore::open(dir, SledOptions::default())
}

const GROUPS: usize = 700;

/// A store with some hundred records of every shape, shut, as a directory to copy from.
async fn filled() -> (tempfile::TempDir, Vec<Pair>) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    // Many cold records, each third overwritten once, then hot ones that fill the end of the log: of the cold ones,
    // what sled cannot read at its recovery is not missing but old.
    for group in 0..GROUPS {
        let keys: Vec<_> = match group {
            0..100 => (group * 15..group * 15 + 15).map(|n| format!("cold/{n:04}")).collect(),
            100..200 => (0..5).map(|n| format!("cold/{:04}", (group - 100) * 15 + n * 3)).collect(),
            _ => vec![format!("hot/{}", group % 7)],
        };
        let length = if group % 50 == 0 { 9000 } else { 1500 };
        let write = work(move |txn| {
            for key in &keys {
                txn.put(key.clone().into_bytes(), long(length, group));
            }
            Ok(())
        });
        store.commit(write).await.unwrap();
    }
    let records = all(&store, b"").await;
    store.shut().await;
    (dir, records)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_second_opening_is_told_who_holds_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let error = open(dir.path()).err().unwrap();
    assert!(matches!(&error, OpenError::Held { by: Some(by), .. } if *by == std::process::id().to_string()));
    let text = error.to_string();
    assert!(text.contains(&dir.path().display().to_string()) && text.contains("in use"), "{text}");
    store.commit(put("k", "v")).await.unwrap();
    drop(store);
    open(dir.path()).unwrap();
}

#[test]
fn a_store_held_by_another_process_is_named_as_such() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    for file in ["lock", "db"] {
        // flock(1) holds the lock while its command runs; the command says so and waits for its input to end.
        let mut other = Command::new("flock")
            .arg(dir.path().join(file))
            .args(["sh", "-c", "echo held; cat"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let output = other.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).unwrap();
        assert_eq!(line, "held\n");
        let error = open(dir.path()).err().unwrap();
        assert!(matches!(error, OpenError::Held { .. }), "{file}: {error}");
        drop(other.stdin.take());
        other.wait().unwrap();
        drop(open(dir.path()).unwrap());
    }
}

#[tokio::test]
async fn a_flipped_byte_anywhere_is_found_or_does_no_harm() {
    let (original, records) = filled().await;
    let mut positions = Vec::new();
    for file in fs::read_dir(original.path()).unwrap().flatten() {
        let bytes =
            if file.file_type().unwrap().is_file() { fs::read(file.path()).unwrap() } else { Vec::new() };
        // Beyond the end of the log lie zeroes by the hundred thousand, in which nothing can be damaged.
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let step = (end / 150).max(1);
        positions.extend((0..end).step_by(step).map(|at| (file.file_name(), at)));
    }
    assert!(positions.len() > 200, "{}", positions.len());
    let (mut refused, mut unharmed) = (0, 0);
    for (at, (name, position)) in positions.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        copy(original.path(), dir.path());
        edit(&dir.path().join(&name), |bytes| bytes[position] ^= 1 << (at % 8));
        // Twice: what the first opening did to the files must not hide the damage from the second.
        for _ in 0..2 {
            match open(dir.path()) {
                Ok(store) => {
                    assert!(all(&store, b"").await == records, "{name:?} at {position}: silently different");
                    unharmed += 1;
                }
                Err(OpenError::Damaged { .. } | OpenError::Lost { .. }) => refused += 1,
                Err(error) => panic!("{name:?} at {position}: {error}"),
            }
        }
    }
    assert!(refused > 50 && unharmed > 0, "{refused} refused, {unharmed} unharmed");
}

#[tokio::test]
async fn a_torn_tail_that_was_never_acknowledged_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    for n in 0..100 {
        store.commit(put(format!("k{n:03}"), long(500, n))).await.unwrap();
    }
    let acknowledged = fs::read(dir.path().join(WATERMARK)).unwrap();
    let last =
        |dir: &Path| fs::read(dir.join("db")).unwrap().iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let from = last(dir.path());
    store
        .commit(work(|txn| {
            txn.put(b"torn/a".to_vec(), long(6000, 1));
            txn.put(b"torn/b".to_vec(), long(300, 2));
            Ok(())
        }))
        .await
        .unwrap();
    let to = last(dir.path());
    assert!(to > from + 6000);
    store.shut().await;
    drop(store);
    for end in (from..=to).step_by((to - from) / 12) {
        let torn = tempfile::tempdir().unwrap();
        copy(dir.path(), torn.path());
        edit(&torn.path().join("db"), |bytes| bytes.truncate(end));
        // The sync did not happen, so neither did the note of it.
        fs::write(torn.path().join(WATERMARK), &acknowledged).unwrap();
        let store = open(torn.path()).unwrap();
        let found = all(&store, b"").await;
        assert!(found.len() == 100 || (found.len() == 102 && end == to), "{} at {end}", found.len());
        assert!(found.iter().take(100).enumerate().all(|(n, (_, value))| *value == long(500, n)));
        store.commit(put("after", "v")).await.unwrap();
    }
}

#[tokio::test]
async fn losing_acknowledged_commits_is_never_silent() {
    let (original, records) = filled().await;
    let end = fs::read(original.path().join("db")).unwrap().iter().rposition(|byte| *byte != 0).unwrap();
    let (mut lost, mut went_on) = (0, 0);
    for cut in (1..24).map(|part| end * part / 24) {
        let mut refused = false;
        let dir = tempfile::tempdir().unwrap();
        copy(original.path(), dir.path());
        edit(&dir.path().join("db"), |bytes| bytes.truncate(cut));
        for _ in 0..2 {
            match open(dir.path()) {
                Ok(store) => assert!(all(&store, b"").await == records, "silently different, cut at {cut}"),
                Err(OpenError::Lost { found, expected, .. }) => {
                    assert!(found < expected && expected == GROUPS as u64);
                    lost += 1;
                    refused = true;
                }
                Err(error) => assert!(matches!(error, OpenError::Damaged { .. }), "{error}"),
            }
        }
        if refused {
            // The way out that the message names; sled may have found out meanwhile that more is missing.
            fs::remove_file(dir.path().join(WATERMARK)).unwrap();
            match open(dir.path()) {
                Ok(store) => {
                    store.commit(put("k", "v")).await.unwrap();
                    went_on += 1;
                }
                Err(error) => assert!(matches!(error, OpenError::Damaged { .. }), "{error}"),
            }
        }
    }
    assert!(went_on > 0, "{lost} lost");
}

#[tokio::test]
async fn what_an_interrupted_start_left_does_not_stop_the_next() {
    let (dir, records) = filled().await;
    for name in ["snap.0000000000000000.generating", "snap.FFFFFFFFFFFFFFFF.generating"] {
        fs::write(dir.path().join(name), b"half a snapshot").unwrap();
    }
    let store = open(dir.path()).unwrap();
    assert!(all(&store, b"").await == records);
    assert!(!dir.path().join("snap.FFFFFFFFFFFFFFFF.generating").exists());
}

#[tokio::test]
async fn t45_a_newer_format_is_refused_and_left_alone() {
    let (dir, records) = filled().await;
    let key = b"\0format";
    let set = |format: u32| {
        let db = super::tests::bare(dir.path());
        db.insert(key, crate::store::frame::encode(key, &format.to_le_bytes()).0).unwrap();
        db.flush().unwrap();
    };
    set(7);
    let error = open(dir.path()).err().unwrap();
    assert!(matches!(error, OpenError::Newer { found: 7, known: 1, .. }), "{error}");
    set(1);
    assert!(all(&open(dir.path()).unwrap(), b"").await == records);
}

#[test]
fn somebody_elses_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let db = super::tests::bare(dir.path());
    db.insert("theirs", "value").unwrap();
    drop(db);
    let error = open(dir.path()).err().unwrap();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}

#[test]
fn a_directory_without_permission_is_named() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    fs::write(&file, b"").unwrap();
    let error = open(&file.join("store")).err().unwrap();
    assert!(matches!(error, OpenError::Io { .. }), "{error}");
    // Root may do everything but write to a file system that is mounted for reading; /proc says no to anybody.
    let disk = Tmpfs::mount("1m");
    disk.remount("ro");
    let error = open(&disk.path().join("store")).err().unwrap();
    assert!(matches!(error, OpenError::Permission { .. }), "{error}");
}

/// A small disk of our own.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn mount(size: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(dir.path()).output();
        let mounted = mounted.expect("this test needs the mount command");
        assert!(
            mounted.status.success(),
            "this test must be allowed to mount a tmpfs (run it as root, or in `unshare -rm`): {}",
            String::from_utf8_lossy(&mounted.stderr)
        );
        Self(dir)
    }

    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        let done = Command::new("mount").args(["-o", &options]).arg(self.0.path()).status().unwrap();
        assert!(done.success());
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("-l").arg(self.0.path()).status();
        assert!(done.is_ok_and(|done| done.success()) || thread::panicking());
    }
}

/// Writes until no more than `left` bytes are free.
fn hog(disk: &Tmpfs, left: u64) -> PathBuf {
    let path = disk.path().join("hog");
    let file = File::create(&path).unwrap();
    let free = rustix::fs::statvfs(disk.path()).map(|answer| answer.f_bavail * answer.f_frsize).unwrap();
    let zeroes = vec![0; 4096];
    for page in 0..(free - left) / 4096 {
        file.write_all_at(&zeroes, page * 4096).unwrap();
    }
    path
}

fn small() -> SledOptions {
    SledOptions { reserve: 4 << 20, ..SledOptions::default() }
}

#[tokio::test]
async fn a_full_disk_refuses_commits_serves_reads_and_recovers() {
    let disk = Tmpfs::mount("24m");
    let dir = disk.path().join("store");
    let store = SledStore::open(&dir, small()).unwrap();
    let mut written = 0;
    let error = loop {
        match store.commit(put(format!("k{written:06}"), long(3000, written))).await {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 20_000, "the disk never filled");
    };
    assert!(
        matches!(error, CommitError::Full { free, reserve } if free < reserve + 10_000 && reserve == 4 << 20)
    );
    assert!(written > 500, "{written}");
    // sled may yet give back some of its own room; somebody takes it.
    let hog = hog(&disk, 1 << 20);
    for _ in 0..50 {
        assert!(matches!(store.commit(put("more", "v")).await, Err(CommitError::Full { .. })));
    }
    let records = all(&store, b"").await;
    assert!(records.len() == written);
    assert!(records.iter().enumerate().all(|(n, (_, value))| *value == long(3000, n)));
    assert!(!store.health().failed && store.health().writer_alive);
    fs::remove_file(hog).unwrap();
    disk.remount("size=48m");
    store.commit(put("more", "v")).await.unwrap();
    store.shut().await;
    drop(store);
    assert_eq!(all(&SledStore::open(&dir, small()).unwrap(), b"").await.len(), written + 1);
}

#[tokio::test]
async fn somebody_else_filling_the_disk_is_survived() {
    let disk = Tmpfs::mount("40m");
    let dir = disk.path().join("store");
    let store = SledStore::open(&dir, small()).unwrap();
    for n in 0..500 {
        store.commit(put(format!("k{n:06}"), long(1000, n))).await.unwrap();
    }
    for left in [3 << 20, 100 << 10, 0] {
        let hog = hog(&disk, left);
        // Longer than sled's own thread sleeps, which cleans up and syncs.
        tokio::time::sleep(Duration::from_millis(700)).await;
        for _ in 0..20 {
            let refused = store.commit(put("more", long(3000, 0))).await;
            assert!(matches!(refused, Err(CommitError::Full { .. })), "{refused:?}");
        }
        assert_eq!(all(&store, b"k").await.len(), 500);
        fs::remove_file(hog).unwrap();
        store.commit(put(format!("later/{left}"), long(3000, 1))).await.unwrap();
    }
    store.shut().await;
    drop(store);
    let hog = hog(&disk, 0);
    match SledStore::open(&dir, small()) {
        Ok(store) => assert!(matches!(store.commit(put("k", "v")).await, Err(CommitError::Full { .. }))),
        Err(error) => assert!(matches!(&error, OpenError::Full { dir: named } if *named == dir), "{error}"),
    }
    fs::remove_file(hog).unwrap();
    let store = SledStore::open(&dir, small()).unwrap();
    assert_eq!(all(&store, b"").await.len(), 503);
    store.commit(put("k", "v")).await.unwrap();
}

#[tokio::test]
async fn a_work_larger_than_the_room_is_refused_before_anything_is_tried() {
    let disk = Tmpfs::mount("24m");
    let store = SledStore::open(&disk.path().join("store"), small()).unwrap();
    let (large, small) = (store.commit(put("large", long(12 << 20, 1))), store.commit(put("small", "v")));
    assert!(matches!(large.await, Err(CommitError::Full { .. })));
    small.await.unwrap();
    assert_eq!(all(&store, b"").await.len(), 1);
    assert!(!store.health().failed);
}

#[tokio::test]
async fn a_disk_that_fills_between_the_question_and_the_write_fails_the_store_and_not_its_records() {
    let disk = Tmpfs::mount("24m");
    let dir = disk.path().join("store");
    let store = SledStore::open(&dir, SledOptions { reserve: 0, ..SledOptions::default() }).unwrap();
    let mut acknowledged = 0;
    let full = loop {
        // The work itself takes the room away, after the store asked and before it writes.
        let path = disk.path().join("hog");
        let write = work(move |txn| {
            txn.put(format!("k{acknowledged:06}").into_bytes(), long(3000, acknowledged));
            if acknowledged == 300 {
                let zeroes = File::create(&path)
                    .and_then(|mut file| std::io::copy(&mut std::io::repeat(0), &mut file));
                assert!(zeroes.is_err());
            }
            Ok(())
        });
        match store.commit(write).await {
            Ok(()) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 2000, "never full");
    };
    assert!(matches!(full, CommitError::Failed(_) | CommitError::Full { .. }), "{full}");
    drop(store);
    fs::remove_file(disk.path().join("hog")).unwrap();
    let store = SledStore::open(&dir, SledOptions::default()).unwrap();
    let found = all(&store, b"").await;
    assert!(
        found.len() >= acknowledged && found.len() <= acknowledged + 1,
        "{} of {acknowledged}",
        found.len()
    );
    assert!(found.iter().enumerate().all(|(n, (_, value))| *value == long(3000, n)));
}
