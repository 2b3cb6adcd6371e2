//! There and back: what is in a backup is in what is restored of it, and a backup that is not whole leaves nothing.

use super::*;
use crate::backup::{NewFile, TakeError, take};
use crate::store::MemoryStore;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

const ULID: &str = "01J9ZQ5K3M8N7P6R5S4T3V2W1X";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn head() -> Head {
    Head { program: "1.2.3".to_owned(), instance: "here".to_owned(), at: at(1_800_000_000) }
}

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

fn records() -> Map {
    let mut map: Map = (0..3000)
        .map(|n: usize| (format!("j/{n:06}").into_bytes(), vec![u8::try_from(n % 251).unwrap(); n % 5000]))
        .collect();
    map.insert(format!("x/{ULID}").into_bytes(), b"{}".to_vec());
    map
}

fn all(store: &dyn Store) -> Map {
    let runtime = Builder::new_current_thread().build().unwrap();
    let scan = crate::store::Scan { prefix: Vec::new(), after: None, reverse: false, limit: usize::MAX };
    runtime.block_on(store.scan(scan)).unwrap().into_iter().collect()
}

fn filled(map: &Map) -> MemoryStore {
    let store = MemoryStore::new();
    let map = map.clone();
    let done = store.commit(Box::new(move |txn| {
        map.iter().for_each(|(key, value)| txn.put(key.clone(), value.clone()));
        Ok(())
    }));
    Builder::new_current_thread().build().unwrap().block_on(done).unwrap();
    store
}

/// A directory with a backup `b` in it, and what is in that.
fn taken() -> (tempfile::TempDir, Map) {
    let dir = tempfile::tempdir().unwrap();
    let outputs = dir.path().join("outputs");
    fs::create_dir(&outputs).unwrap();
    let output = |name: &str, content: &[u8]| fs::write(outputs.join(name), content).unwrap();
    output(&format!("book_{ULID}.s.1.stdout"), &[9; 200_000]);
    output(&format!("book_{ULID}.s.1.stdout.new"), b"was being put in order");
    output("book_01ZZZZZZZZZZZZZZZZZZZZZZZZ.s.1.stdout", b"of a later one");
    output("somebodys", b"");
    fs::create_dir(outputs.join(format!("book_{ULID}.s.2.stdout"))).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", outputs.join("link_")).unwrap();
    let map = records();
    let mut file = NewFile::create(&dir.path().join("b"), false).unwrap();
    let contents = take(filled(&map).copy().unwrap(), &outputs, &head(), &mut file, &|| true).unwrap();
    file.put_in_place().unwrap();
    assert_eq!((contents.records, contents.files, contents.file_bytes), (3001, 1, 200_000));
    (dir, map)
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_was_taken_is_restored_and_everything_is_halted() {
    let (dir, map) = taken();
    let target = dir.path().join("new/data");
    // A header that cannot be read is no execution that is live, and none is.
    let restored = restore(&dir.path().join("b"), &target, at(1_800_000_100)).unwrap();
    assert_eq!((&restored.head, restored.live, restored.contents.records), (&head(), 0, 3001));
    assert_eq!(names(&target), ["outputs", "store"]);
    assert_eq!(target.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    let output = target.join("outputs").join(format!("book_{ULID}.s.1.stdout"));
    assert_eq!(names(&target.join("outputs")).len(), 1);
    assert_eq!(fs::read(&output).unwrap(), [9; 200_000]);
    assert_eq!(output.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let store: Arc<dyn Store> =
        Arc::new(SledStore::open(&target.join("store"), SledOptions::default()).unwrap());
    let mut found = all(&*store);
    let new: Vec<String> = found
        .keys()
        .filter(|key| !map.contains_key(*key))
        .map(|key| String::from_utf8_lossy(key).into_owned())
        .collect();
    assert_eq!(new.len(), 4, "an order, two records of the audit log, and its head: {new:?}");
    found.retain(|key, _| map.contains_key(key));
    assert!(found == map);
    let runtime = Builder::new_current_thread().build().unwrap();
    let records = Records::new(store);
    let switch = runtime.block_on(records.kill_switch()).unwrap().switch;
    let order = switch.get(&Scope::Global).unwrap();
    assert_eq!((order.state, order.by.as_str()), (SwitchState::Halted, "runbookd"));
    assert_eq!(order.reason, "restored from a backup of 2027-01-15T08:00:00Z");
    let check = runtime.block_on(records.verify_audit()).unwrap();
    assert_eq!((check.head.seq, check.broken), (2, None));
}

#[test]
fn a_backup_that_is_not_whole_is_refused_and_leaves_nothing() {
    let (dir, _) = taken();
    let good = fs::read(dir.path().join("b")).unwrap();
    let (bad, target) = (dir.path().join("bad"), dir.path().join("data"));
    let step = good.len() / 40;
    let mut files: Vec<Vec<u8>> = (0..good.len()).step_by(step).map(|at| good[..at].to_vec()).collect();
    files.extend((0..good.len()).step_by(step).map(|at| {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        bytes
    }));
    for bytes in files {
        fs::write(&bad, bytes).unwrap();
        let error = restore(&bad, &target, at(0)).unwrap_err();
        assert!(matches!(error, RestoreError::Unfit { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("bad cannot be restored: it "), "{text}");
        assert!(!target.exists());
    }
}

#[test]
fn only_an_empty_directory_is_restored_into() {
    let (dir, _) = taken();
    let (file, target) = (dir.path().join("b"), dir.path().join("data"));
    for found in ["store", "outputs", "halt", "notes.txt"] {
        fs::create_dir(&target).unwrap();
        fs::write(target.join(found), "mine").unwrap();
        let error = restore(&file, &target, at(0)).unwrap_err();
        assert!(matches!(&error, RestoreError::NotEmpty { found: name, .. } if name == found), "{error}");
        assert_eq!(fs::read(target.join(found)).unwrap(), b"mine");
        assert_eq!(names(&target), [found]);
        fs::remove_dir_all(&target).unwrap();
    }
    fs::create_dir(&target).unwrap();
    fs::create_dir(target.join("lost+found")).unwrap();
    restore(&file, &target, at(0)).unwrap();
    let error = restore(&file, &target, at(0)).unwrap_err();
    assert!(matches!(error, RestoreError::NotEmpty { .. }), "{error}");
}

#[test]
fn what_an_interrupted_restore_left_is_not_served_from_and_is_no_obstacle_to_the_next() {
    let (dir, map) = taken();
    let (file, target) = (dir.path().join("b"), dir.path().join("data"));
    assert_eq!(unfinished(&target), None);
    for left in
        [&["restoring/store"][..], &["restoring/store", "restoring/outputs"], &["restoring/store", "outputs"]]
    {
        for name in left {
            fs::create_dir_all(target.join(name)).unwrap();
            fs::write(target.join(name).join("half"), "").unwrap();
        }
        let told = unfinished(&target).unwrap();
        assert!(told.contains("runbookd restore FILE --storage.path"), "{told}");
        restore(&file, &target, at(0)).unwrap();
        assert_eq!((unfinished(&target), names(&target).len()), (None, 2));
        assert_eq!(names(&target.join("outputs")).len(), 1);
        let found = all(&SledStore::open(&target.join("store"), SledOptions::default()).unwrap());
        assert_eq!(found.len(), map.len() + 4);
        fs::remove_dir_all(&target).unwrap();
    }
}

#[test]
fn two_restores_into_one_directory_do_not_meet() {
    let (dir, _) = taken();
    let target = dir.path().join("data");
    let site = Site::open(&target).unwrap();
    let error = restore(&dir.path().join("b"), &target, at(0)).unwrap_err();
    assert!(matches!(error, RestoreError::Busy(_)), "{error}");
    drop(site);
    restore(&dir.path().join("b"), &target, at(0)).unwrap();
}

#[test]
fn who_takes_a_backup_is_told_why_there_is_none() {
    let store = filled(&records());
    let mut bytes = Vec::new();
    let error =
        take(store.copy().unwrap(), Path::new("/nowhere"), &head(), &mut bytes, &|| false).unwrap_err();
    assert!(matches!(error, TakeError::Ends));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("b");
    fs::write(&file, bytes).unwrap();
    let error = check(&file).unwrap_err();
    assert!(error.to_string().ends_with("it was given up: runbookd ends"), "{error}");
    struct Full;
    impl io::Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let error = take(store.copy().unwrap(), Path::new("/nowhere"), &head(), Full, &|| true).unwrap_err();
    assert!(matches!(error, TakeError::Write(_)), "{error}");
}

#[test]
fn a_file_that_is_none_is_told_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let error = check(&dir.path().join("none")).unwrap_err();
    assert!(
        error.to_string().contains("none cannot be restored: it cannot be read: No such file"),
        "{error}"
    );
    let error = check(dir.path()).unwrap_err();
    assert!(error.to_string().contains("it cannot be read"), "{error}");
    fs::write(dir.path().join("text"), "hello").unwrap();
    let error = check(&dir.path().join("text")).unwrap_err();
    assert!(error.to_string().contains("it is no backup of runbookd"), "{error}");
}
