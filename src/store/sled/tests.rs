//! The embedded store under the contract, and what it alone promises: persistence, one owner, bounded waiting.

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc;

use super::*;
use crate::store::contract::{self, all, delete, long, put, work};

async fn fresh() -> (SledStore, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (SledStore::open(dir.path(), SledOptions::default()).unwrap(), dir)
}

contract::suite!(fresh());

fn open(dir: &Path) -> SledStore {
    SledStore::open(dir, SledOptions::default()).unwrap()
}

/// What lies in `dir`, past the store. A child that another test is just starting may have its lock for a moment.
pub(super) fn bare(dir: &Path) -> ::sled::Db {
    let began = std::time::Instant::now();
    loop {
        match ::sled::open(dir) {
            Ok(db) => return db,
            Err(error) => assert!(began.elapsed().as_secs() < 5, "{error}"),
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// A work that waits until it is told to go on, and what tells when it is inside.
fn blocking_work() -> (Work, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (inside_sender, inside) = mpsc::channel();
    let (go, wait) = mpsc::channel();
    let blocking = work(move |_| {
        inside_sender.send(()).unwrap();
        wait.recv().unwrap();
        Ok(())
    });
    (blocking, inside, go)
}

#[tokio::test]
async fn everything_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("made/by/opening");
    for round in 0..4 {
        let store = open(&dir);
        for n in 0..200 {
            let value = long(if n % 20 == 0 { 10_000 } else { 300 }, n + round);
            if n < 50 * round {
                assert_eq!(store.get(format!("k{n}").as_bytes()).await.unwrap().is_some(), n % 7 != 0);
            }
            drop(store.commit(put(format!("k{n}"), value)));
            if n % 7 == 0 {
                drop(store.commit(delete(format!("k{n}"))));
            }
        }
        store.shut().await;
        drop(store);
    }
    let store = open(&dir);
    let found = all(&store, b"").await;
    assert_eq!(found.len(), 200 - 200usize.div_ceil(7));
    for (key, value) in found {
        let n: usize = std::str::from_utf8(&key[1..]).unwrap().parse().unwrap();
        assert_eq!(value, long(value.len(), n + 3));
    }
}

#[tokio::test]
async fn deleting_long_values_leaves_no_parts_behind() {
    let (store, dir) = fresh().await;
    for n in 0..20 {
        store.commit(put(format!("k{n}"), long(20_000, n))).await.unwrap();
    }
    for n in 0..10 {
        store.commit(put(format!("k{n}"), "short")).await.unwrap();
    }
    for n in 0..20 {
        store.commit(delete(format!("k{n}"))).await.unwrap();
    }
    store.shut().await;
    drop(store);
    let db = bare(dir.path());
    let left: Vec<_> = db.iter().keys().map(|key| key.unwrap().to_vec()).collect();
    assert_eq!(left.len(), 2, "format and totals only: {left:?}");
}

#[tokio::test]
async fn a_damaged_record_names_its_key_and_hurts_no_other() {
    let (store, _dir) = fresh().await;
    store.commit(put("whole", "value")).await.unwrap();
    store.commit(put("long", long(9000, 1))).await.unwrap();
    store.commit(put("torn", long(9000, 1))).await.unwrap();
    let tree = store.shared.table.tree();
    let flip = |key: Vec<u8>| {
        let mut entry = tree.get(&key).unwrap().unwrap().to_vec();
        let last = entry.len() - 1;
        entry[last] ^= 4;
        tree.insert(key, entry).unwrap();
    };
    flip(crate::store::frame::record_key(b"whole"));
    flip(crate::store::frame::part_key(b"long", 1));
    tree.remove(crate::store::frame::part_key(b"torn", 2)).unwrap();
    for key in ["whole", "long", "torn"] {
        let error = store.get(key.as_bytes()).await.unwrap_err();
        assert!(matches!(&error, ReadError::Damaged { key: named, .. } if named == key), "{error}");
        let scan = Scan { prefix: key.into(), after: None, reverse: false, limit: 10 };
        assert!(matches!(store.scan(scan).await, Err(ReadError::Damaged { .. })));
        let read = work(move |txn| txn.get(key.as_bytes()).map(drop).map_err(CommitError::from));
        assert!(matches!(store.commit(read).await, Err(CommitError::Read(ReadError::Damaged { .. }))));
    }
    store.commit(put("another", "fine")).await.unwrap();
    for key in ["whole", "long", "torn"] {
        store.commit(put(key, "healed")).await.unwrap();
        assert_eq!(store.get(key.as_bytes()).await.unwrap(), Some(b"healed".to_vec()));
    }
    assert!(!store.health().failed);
}

#[tokio::test]
async fn a_full_queue_makes_commits_wait_and_loses_none() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path(), SledOptions { queue: 2, ..SledOptions::default() }).unwrap();
    let (blocking, inside, go) = blocking_work();
    let first = store.commit(blocking);
    inside.recv().unwrap();
    let mut waiting: Vec<_> = (0..10).map(|n| store.commit(put(format!("k{n}"), "v"))).collect();
    let dropped = waiting.pop();
    drop(dropped);
    let all_of_them = tokio::spawn(futures_util::future::join_all(waiting));
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(store.shared.queue.places.available_permits(), 0);
    go.send(()).unwrap();
    first.await.unwrap();
    assert!(all_of_them.await.unwrap().iter().all(Result::is_ok));
    assert_eq!(all(&store, b"k").await.len(), 9);
}

#[tokio::test]
async fn commits_that_wait_outside_are_refused_by_shut() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path(), SledOptions { queue: 1, ..SledOptions::default() }).unwrap();
    let (blocking, inside, go) = blocking_work();
    let first = store.commit(blocking);
    inside.recv().unwrap();
    let second = store.commit(put("queued", "v"));
    let outside = tokio::spawn(store.commit(put("outside", "v")));
    tokio::time::sleep(Duration::from_millis(20)).await;
    let shut = store.shut();
    go.send(()).unwrap();
    shut.await;
    first.await.unwrap();
    second.await.unwrap();
    assert!(matches!(outside.await.unwrap(), Err(CommitError::Shut)));
    assert_eq!(all(&store, b"").await.len(), 1);
}

#[tokio::test]
async fn a_stuck_writer_shows_in_health_and_reads_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let options = SledOptions { stuck_after: Duration::from_millis(50), ..SledOptions::default() };
    let store = SledStore::open(dir.path(), options).unwrap();
    store.commit(put("k", "v")).await.unwrap();
    let (blocking, inside, go) = blocking_work();
    let stuck = store.commit(blocking);
    inside.recv().unwrap();
    assert!(store.health().writer_alive);
    tokio::time::sleep(Duration::from_millis(80)).await;
    assert!(!store.health().writer_alive);
    assert_eq!(store.get(b"k").await.unwrap(), Some(b"v".to_vec()));
    assert_eq!(all(&store, b"").await.len(), 1);
    go.send(()).unwrap();
    stuck.await.unwrap();
    store.commit(put("k", "w")).await.unwrap();
    assert!(store.health().writer_alive);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_works_share_a_group_and_the_hook_hears_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let (works, groups) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let on_commit: OnCommit = {
        let (works, groups) = (works.clone(), groups.clone());
        Arc::new(move |took, count| {
            assert!(took > Duration::ZERO);
            works.fetch_add(count, Ordering::Relaxed);
            groups.fetch_add(1, Ordering::Relaxed);
            std::panic::resume_unwind(Box::new("a hook that panics must not end the store"));
        })
    };
    let options = SledOptions { on_commit: Some(on_commit), ..SledOptions::default() };
    let store = SledStore::open(dir.path(), options).unwrap();
    let (blocking, inside, go) = blocking_work();
    drop(store.commit(blocking));
    inside.recv().unwrap();
    let waiting: Vec<_> = (0..300).map(|n| store.commit(put(format!("k{n}"), "v"))).collect();
    go.send(()).unwrap();
    for waiting in waiting {
        waiting.await.unwrap();
    }
    store.shut().await;
    // The blocking work and 255 others fill the first group.
    assert_eq!((works.load(Ordering::Relaxed), groups.load(Ordering::Relaxed)), (301, 2));
}

#[tokio::test]
async fn quiet_after_much_is_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let told = Arc::new(AtomicUsize::new(0));
    let on_quiet: OnQuiet = {
        let told = told.clone();
        Arc::new(move || {
            told.fetch_add(1, Ordering::Relaxed);
        })
    };
    let options = SledOptions { on_quiet: Some(on_quiet), ..SledOptions::default() };
    let store = SledStore::open(dir.path(), options).unwrap();
    let pause = || tokio::time::sleep(Duration::from_millis(1500));
    store.commit(put("k", "little")).await.unwrap();
    pause().await;
    assert_eq!(told.load(Ordering::Relaxed), 0);
    let much: Vec<_> = (0..1000).map(|n| store.commit(put(format!("k{n}"), "v"))).collect();
    for commit in much {
        commit.await.unwrap();
    }
    let heard = async {
        while told.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), heard).await.unwrap();
    store.commit(put("k", "little")).await.unwrap();
    pause().await;
    assert_eq!(told.load(Ordering::Relaxed), 1);
    store.shut().await;
}

#[tokio::test]
async fn a_failed_sync_fails_the_store_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open::open(dir.path(), &SledOptions::default()).unwrap();
    // A pipe cannot be synced: the system refuses, as it does for a broken disk.
    let (reader, _writer) = std::io::pipe().unwrap();
    let broken = File::from(std::os::fd::OwnedFd::from(reader));
    let store =
        SledStore::start(dir.path(), Opened { log: broken, ..opened }, SledOptions::default()).unwrap();
    let (first, second) = (store.commit(put("a", "1")), store.commit(put("b", "1")));
    assert!(matches!(first.await, Err(CommitError::Failed(why)) if why.contains("sync")));
    assert!(matches!(second.await, Err(CommitError::Failed(_))));
    assert!(matches!(store.commit(put("c", "1")).await, Err(CommitError::Failed(_))));
    assert!(store.health().failed);
    assert!(store.get(b"c").await.unwrap().is_none());
}

#[tokio::test]
async fn directory_and_files_are_for_the_owner_only() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("store");
    let store = open(&dir);
    store.commit(put("k", "v")).await.unwrap();
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    for file in fs::read_dir(&dir).unwrap().flatten() {
        let metadata = file.metadata().unwrap();
        let wanted = if metadata.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(metadata.permissions().mode() & 0o777, wanted, "{:?}", file.file_name());
    }
}

#[tokio::test]
async fn nothing_flushes_on_a_clock() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.commit(put("k", "v")).await.unwrap();
    let names = fs::read_dir("/proc/self/task").unwrap().flatten();
    let names: Vec<_> = names.flat_map(|task| fs::read_to_string(task.path().join("comm"))).collect();
    assert!(names.iter().any(|name| name.trim() == "store-writer"), "{names:?}");
    assert!(!names.iter().any(|name| name.contains("flusher")), "{names:?}");
}
