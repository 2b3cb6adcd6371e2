//! Power cuts under load: what was acknowledged is there afterwards, and every opening is clean.
//!
//! A child (this binary again) commits as fast as it can and prints each number after its acknowledgement; it is
//! killed at a random moment, and only what was synced remains. May import: the store, `support`. Must never: open
//! the root itself between cuts, so that the child also recovers from a cut and may be cut again meanwhile.

mod daemon;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use runbookd::store::{Pair, Scan, SledOptions, SledStore, Store, Work};

use crate::support::lives::Random;
use crate::support::powercut::{Names, Shim, copy};

const CUTS: usize = 100;
/// After so many cuts the store begins anew, so that creation is cut too.
const CUTS_OF_A_STORE: usize = 10;
const WRITERS: usize = 16;
/// A work removes what the one so many numbers before it wrote; more than are ever under way at once.
const BEHIND: u64 = 100;
const SLOTS: u64 = 20;

#[test]
fn acknowledged_commits_survive_a_hundred_power_cuts() {
    child_if_asked();
    let outcome = cut_again_and_again("acknowledged_commits_survive_a_hundred_power_cuts", false);
    let acknowledged = outcome.unwrap_or_else(|loss| panic!("{loss}"));
    assert!(acknowledged > 2000, "only {acknowledged} acknowledgements: this proves little");
}

#[test]
fn without_our_own_sync_a_power_cut_loses_acknowledged_commits() {
    child_if_asked();
    let outcome = cut_again_and_again("without_our_own_sync_a_power_cut_loses_acknowledged_commits", true);
    outcome.expect_err("the test above cannot fail: nothing was lost without a sync");
}

/// How many acknowledgements were kept through all cuts, or the first loss.
fn cut_again_and_again(test: &str, skip_sync: bool) -> Result<usize, String> {
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random::new(std::hash::RandomState::new().build_hasher().finish());
    let mut total = 0;
    let mut with_acknowledgements = 0;
    for store in 0..CUTS / CUTS_OF_A_STORE {
        let root = dir.path().join(format!("store-{store}"));
        let shim = Shim::over(&root);
        let mut acknowledged = BTreeSet::new();
        for cut in 0..CUTS_OF_A_STORE {
            let from = (cut as u64 + 1) * 1_000_000;
            let names = if cut % 2 == 0 { Names::AtSync } else { Names::AtOnce };
            let before = acknowledged.len();
            let moment = match cut % 3 {
                0 => Moment::AfterStart(Duration::from_millis(random.below(60))),
                _ => Moment::AfterFirst(Duration::from_millis(random.below(140))),
            };
            acknowledged.extend(run_and_kill(test, &shim, names, from, skip_sync, moment));
            shim.cut();
            with_acknowledgements += usize::from(acknowledged.len() > before);
            let copied = dir.path().join("copy");
            copy(&root, &copied);
            check(&copied, &acknowledged).map_err(|what| {
                format!(
                    "store {store}, cut {cut}, names {names:?}, {} acknowledged: {what}",
                    acknowledged.len()
                )
            })?;
            std::fs::remove_dir_all(&copied).unwrap();
        }
        total += acknowledged.len();
        std::fs::remove_dir_all(&root).unwrap();
    }
    assert!(with_acknowledgements > CUTS / 2, "only {with_acknowledgements} cuts after an acknowledgement");
    Ok(total)
}

/// When to kill the child.
enum Moment {
    /// So long after its start: while it opens the store, or shortly after.
    AfterStart(Duration),
    /// So long after its first acknowledgement: under load.
    AfterFirst(Duration),
}

fn run_and_kill(
    test: &str,
    shim: &Shim,
    names: Names,
    from: u64,
    skip_sync: bool,
    moment: Moment,
) -> Vec<u64> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", &format!("powercut::{test}"), "--nocapture", "--test-threads=1"])
        .env("RUNBOOKD_POWERCUT_FROM", from.to_string())
        .env("RUNBOOKD_POWERCUT_SKIP_SYNC", if skip_sync { "1" } else { "0" })
        .stdout(Stdio::piped());
    shim.arm(&mut command, names);
    let mut child = command.spawn().unwrap();
    let output = child.stdout.take().unwrap();
    let (first, wait_for_first) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut numbers = Vec::new();
        let mut output = BufReader::new(output);
        let mut line = String::new();
        while output.read_line(&mut line).unwrap() > 0 {
            // The kill may cut the last line.
            if let Some(number) = line.strip_suffix('\n').and_then(|line| line.strip_prefix("ack ")) {
                numbers.push(number.parse::<u64>().unwrap());
                // Nobody may be waiting for it.
                first.send(()).ok();
            }
            line.clear();
        }
        numbers
    });
    match moment {
        Moment::AfterStart(after) => std::thread::sleep(after),
        Moment::AfterFirst(after) => {
            // An error means that the child ended, which is found below.
            wait_for_first.recv_timeout(Duration::from_secs(30)).ok();
            std::thread::sleep(after);
        }
    }
    let ended_before = child.try_wait().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(
        ended_before, None,
        "the child ended by itself: it could not open the store, or a commit failed"
    );
    reader.join().unwrap()
}

/// Opens the store that a cut left, and compares it with what was acknowledged.
fn check(dir: &Path, acknowledged: &BTreeSet<u64>) -> Result<(), String> {
    let store = SledStore::open(dir, SledOptions::default()).map_err(|error| error.to_string())?;
    let scan = |prefix: &str| Scan { prefix: prefix.into(), after: None, reverse: false, limit: usize::MAX };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let read = |prefix: &str| -> Result<BTreeMap<u64, Vec<u8>>, String> {
        let pairs = runtime.block_on(store.scan(scan(prefix))).map_err(|error| error.to_string())?;
        Ok(pairs.into_iter().map(number_of).collect())
    };
    let (a, b, behind, slots) = (read("a/")?, read("b/")?, read("behind/")?, read("slot/")?);
    if let Some(lost) = acknowledged.iter().find(|number| !a.contains_key(number)) {
        return Err(format!("{lost} was acknowledged and is gone"));
    }
    if let Some((wrong, _)) = a.iter().find(|(number, value)| **value != body(**number)) {
        return Err(format!("a/{wrong} is not what was written"));
    }
    if a.len() != b.len()
        || b.iter().any(|(number, value)| *value != body(number + 7) || !a.contains_key(number))
    {
        return Err("half a work survived".to_owned());
    }
    if let Some(number) = acknowledged.iter().find(|number| behind.contains_key(&(**number - BEHIND))) {
        return Err(format!("what {number} removed is back"));
    }
    for number in acknowledged {
        let slot = slots.get(&(number % SLOTS)).ok_or("a slot is gone")?;
        let last: u64 = std::str::from_utf8(slot).unwrap().parse().unwrap();
        if last < *number || !a.contains_key(&last) {
            return Err(format!("slot {} holds {last}, but {number} was acknowledged", number % SLOTS));
        }
    }
    Ok(())
}

fn number_of((key, value): Pair) -> (u64, Vec<u8>) {
    let key = String::from_utf8(key).unwrap();
    (key.split_once('/').unwrap().1.parse().unwrap(), value)
}

/// Most short, every twentieth long enough to be split.
fn body(number: u64) -> Vec<u8> {
    let length = if number.is_multiple_of(20) { 9000 } else { 200 + number % 900 };
    (0..length).map(|at| u8::try_from((at * 31 + number * 7 + at / 256) % 256).unwrap()).collect()
}

/// In the child: commits until it is killed. In the test itself: nothing.
fn child_if_asked() {
    let Ok(from) = std::env::var("RUNBOOKD_POWERCUT_FROM") else { return };
    let root = std::env::var("RUNBOOKD_SHIM_ROOT").unwrap();
    let skip_sync = std::env::var("RUNBOOKD_POWERCUT_SKIP_SYNC").unwrap() == "1";
    let options = SledOptions { skip_sync, ..SledOptions::default() };
    let store = Arc::new(SledStore::open(Path::new(&root), options).unwrap());
    let next = Arc::new(AtomicU64::new(from.parse().unwrap()));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let writers = (0..WRITERS).map(|_| tokio::spawn(commit_for_ever(store.clone(), next.clone())));
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
    });
}

async fn commit_for_ever(store: Arc<SledStore>, next: Arc<AtomicU64>) {
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        store.commit(work(number)).await.unwrap();
        // Only now; one write, so that lines do not mix.
        std::io::stdout().write_all(format!("ack {number}\n").as_bytes()).unwrap();
    }
}

fn work(number: u64) -> Work {
    Box::new(move |txn| {
        let slot = format!("slot/{}", number % SLOTS).into_bytes();
        let last = txn.get(&slot)?.map_or(0, |last| std::str::from_utf8(&last).unwrap().parse().unwrap());
        txn.put(slot, number.max(last).to_string().into_bytes());
        txn.put(format!("a/{number}").into_bytes(), body(number));
        txn.put(format!("b/{number}").into_bytes(), body(number + 7));
        txn.put(format!("behind/{number}").into_bytes(), body(number));
        txn.delete(format!("behind/{}", number - BEHIND).into_bytes());
        Ok(())
    })
}
