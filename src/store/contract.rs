//! What every [`Store`] must do, as tests that run against each implementation: `contract::suite!` makes them.
//!
//! Each function gets an empty store. May import: `store`'s own types. Must never: know which implementation it has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::{CommitError, Copying, MAX_KEY, Pair, Scan, Store, Txn, Work};

/// Makes one test of each function here, over the store that `$make` (a future of store and what must outlive it) gives.
macro_rules! suite {
    ($make:expr) => {
        $crate::store::contract::suite!(
            $make;
            a_commit_is_seen_after_it_and_a_delete_too
            a_work_reads_its_own_writes
            a_refused_work_leaves_nothing
            a_panicking_work_leaves_nothing_and_hurts_no_other
            a_too_long_key_refuses_the_whole_work
            a_work_sees_every_earlier_work
            sixty_four_tasks_count_without_losing_one
            a_transfer_is_never_seen_half
            a_commit_goes_on_when_its_future_is_dropped
            scans_keep_to_prefix_order_after_and_limit
            prefixes_that_end_in_0xff_are_scanned_to_their_end
            scans_agree_with_a_sorted_map
            long_values_come_back_and_leave_no_trace_in_scans
            values_change_between_long_and_short
            a_work_of_ten_megabytes_is_one_commit
            a_copy_is_of_one_moment
            a_copy_of_long_values_and_of_nothing
            health_tells_that_all_is_well
            shut_finishes_what_was_submitted_and_refuses_the_rest
        );
    };
    ($make:expr; $($name:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let (store, _keep) = $make.await;
                $crate::store::contract::$name(std::sync::Arc::new(store)).await;
            }
        )*
    };
}
pub(super) use suite;

/// A work from a closure.
pub(super) fn work(work: impl FnMut(&mut dyn Txn) -> Result<(), CommitError> + Send + 'static) -> Work {
    Box::new(work)
}

/// A work that sets one key.
pub(super) fn put(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Work {
    let (key, value) = (key.into(), value.into());
    work(move |txn| {
        txn.put(key.clone(), value.clone());
        Ok(())
    })
}

/// A work that removes one key.
pub(super) fn delete(key: impl Into<Vec<u8>>) -> Work {
    let key = key.into();
    work(move |txn| {
        txn.delete(key.clone());
        Ok(())
    })
}

/// A work that adds `n` to a counter.
pub(super) fn add(key: impl Into<Vec<u8>>, n: u64) -> Work {
    let key = key.into();
    work(move |txn| {
        let now = number(txn.get(&key)?.as_deref()) + n;
        txn.put(key.clone(), now.to_string().into_bytes());
        Ok(())
    })
}

/// Everything that starts with `prefix`.
pub(super) async fn all(store: &impl Store, prefix: &[u8]) -> Vec<Pair> {
    let scan = Scan { prefix: prefix.to_vec(), after: None, reverse: false, limit: usize::MAX };
    store.scan(scan).await.unwrap()
}

/// Bytes that are not all the same, told apart by `seed`.
pub(super) fn long(length: usize, seed: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from((at * 31 + seed * 17 + at / 251) % 256).unwrap()).collect()
}

fn number(value: Option<&[u8]>) -> u64 {
    value.map_or(0, |value| std::str::from_utf8(value).unwrap().parse().unwrap())
}

async fn count_of(store: &impl Store, key: &[u8]) -> u64 {
    number(store.get(key).await.unwrap().as_deref())
}

pub(super) async fn a_commit_is_seen_after_it_and_a_delete_too(store: Arc<impl Store>) {
    assert_eq!(store.get(b"a").await.unwrap(), None);
    store.commit(put("a", "1")).await.unwrap();
    store.commit(put("", "the empty key is a key")).await.unwrap();
    assert_eq!(store.get(b"a").await.unwrap(), Some(b"1".to_vec()));
    assert_eq!(all(&*store, b"").await.len(), 2);
    store.commit(put("a", "")).await.unwrap();
    assert_eq!(store.get(b"a").await.unwrap(), Some(Vec::new()));
    store.commit(delete("a")).await.unwrap();
    store.commit(delete("never there")).await.unwrap();
    assert_eq!(store.get(b"a").await.unwrap(), None);
    assert_eq!(all(&*store, b"").await, [(Vec::new(), b"the empty key is a key".to_vec())]);
}

pub(super) async fn a_work_reads_its_own_writes(store: Arc<impl Store>) {
    store.commit(put("old", "1")).await.unwrap();
    let committed = store.commit(work(|txn| {
        assert_eq!(txn.get(b"new")?, None);
        txn.put(b"new".to_vec(), b"1".to_vec());
        assert_eq!(txn.get(b"new")?, Some(b"1".to_vec()));
        txn.delete(b"old".to_vec());
        assert_eq!(txn.get(b"old")?, None);
        txn.put(b"old".to_vec(), b"2".to_vec());
        txn.delete(b"new".to_vec());
        Ok(())
    }));
    committed.await.unwrap();
    assert_eq!(all(&*store, b"").await, [(b"old".to_vec(), b"2".to_vec())]);
}

pub(super) async fn a_refused_work_leaves_nothing(store: Arc<impl Store>) {
    store.commit(put("a", "1")).await.unwrap();
    let refused = store.commit(work(|txn| {
        txn.delete(b"a".to_vec());
        txn.put(b"b".to_vec(), b"1".to_vec());
        Err(CommitError::Refused("not today".into()))
    }));
    assert_eq!(refused.await.unwrap_err().to_string(), "refused: not today");
    assert_eq!(all(&*store, b"").await, [(b"a".to_vec(), b"1".to_vec())]);
}

pub(super) async fn a_panicking_work_leaves_nothing_and_hurts_no_other(store: Arc<impl Store>) {
    let answers: Vec<_> = (0..90)
        .map(|n| {
            store.commit(work(move |txn| {
                let now = number(txn.get(b"count")?.as_deref());
                txn.put(b"count".to_vec(), (now + 1).to_string().into_bytes());
                match n % 3 {
                    0 => Ok(()),
                    1 => Err(CommitError::Refused("odd".into())),
                    _ => std::panic::resume_unwind(Box::new("as planned")),
                }
            }))
        })
        .collect();
    for (n, answer) in answers.into_iter().enumerate() {
        match (n % 3, answer.await) {
            (0, Ok(())) => {}
            (1, Err(CommitError::Refused(why))) => assert_eq!(why, "odd"),
            (2, Err(CommitError::Refused(why))) => assert!(why.contains("as planned"), "{why}"),
            (_, answer) => panic!("work {n}: {answer:?}"),
        }
    }
    assert_eq!(count_of(&*store, b"count").await, 30);
}

pub(super) async fn a_too_long_key_refuses_the_whole_work(store: Arc<impl Store>) {
    store.commit(put(vec![b'k'; MAX_KEY], "fits")).await.unwrap();
    let refused = store.commit(work(|txn| {
        txn.put(b"a".to_vec(), b"1".to_vec());
        txn.put(vec![b'k'; MAX_KEY + 1], b"2".to_vec());
        Ok(())
    }));
    assert!(matches!(refused.await, Err(CommitError::Refused(_))));
    assert_eq!(all(&*store, b"").await.len(), 1);
}

pub(super) async fn a_work_sees_every_earlier_work(store: Arc<impl Store>) {
    // Submitted together, so that they may share a group: each must find exactly what those before it left.
    let answers: Vec<_> = (0..500u32)
        .map(|n| {
            store.commit(work(move |txn| {
                let before = number(txn.get(b"last")?.as_deref());
                if before != u64::from(n) {
                    return Err(CommitError::Refused(format!("{before} before {n}")));
                }
                txn.put(b"last".to_vec(), (n + 1).to_string().into_bytes());
                Ok(())
            }))
        })
        .collect();
    for answer in answers {
        answer.await.unwrap();
    }
    assert_eq!(count_of(&*store, b"last").await, 500);
}

pub(super) async fn sixty_four_tasks_count_without_losing_one(store: Arc<impl Store>) {
    let tasks: Vec<_> = (0..64u64)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                for round in 0..20 {
                    store.commit(add("shared", 1)).await.unwrap();
                    store.commit(add(format!("own/{}", (task + round) % 7), 1)).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(count_of(&*store, b"shared").await, 64 * 20);
    let own: u64 = all(&*store, b"own/").await.iter().map(|(_, value)| number(Some(value))).sum();
    assert_eq!(own, 64 * 20);
}

pub(super) async fn a_transfer_is_never_seen_half(store: Arc<impl Store>) {
    store.commit(put("account/a", long(5000, 0))).await.unwrap();
    store.commit(put("account/b", long(5000, 1))).await.unwrap();
    let writer = {
        let store = store.clone();
        tokio::spawn(async move {
            for round in 2..150 {
                let swap = work(move |txn| {
                    let b = txn.get(b"account/b")?.unwrap();
                    txn.put(b"account/a".to_vec(), b);
                    txn.put(b"account/b".to_vec(), long(5000 + round % 9000, round));
                    Ok(())
                });
                store.commit(swap).await.unwrap();
            }
        })
    };
    let mut reads = 0;
    while !writer.is_finished() {
        let accounts = all(&*store, b"account/").await;
        let seeds: Vec<usize> = accounts
            .iter()
            .map(|(_, value)| (0..150).find(|seed| long(value.len(), *seed) == *value).unwrap())
            .collect();
        assert_eq!((seeds[0] + 1, seeds.len()), (seeds[1], 2), "a mixture of two moments");
        reads += 1;
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
    assert!(reads > 0);
}

/// What a copy makes of an empty map.
fn copied(copy: &mut dyn Copying) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut map = BTreeMap::new();
    while let Some(portion) = copy.next().unwrap() {
        for (key, value) in portion {
            match value {
                Some(value) => map.insert(key, value),
                None => map.remove(&key),
            };
        }
    }
    assert!(copy.next().unwrap().is_none());
    map
}

pub(super) async fn a_copy_is_of_one_moment(store: Arc<impl Store>) {
    const KEYS: usize = 4000;
    let key = |n: usize| format!("k{:05}", n % KEYS).into_bytes();
    // Each round sets two keys far from each other to the round's number, and removes the two of another round.
    let round = move |n: usize| {
        work(move |txn| {
            let (first, second) = (n * 37 % 1000, 3000 + n * 53 % 1000);
            txn.put(key(first), n.to_string().into_bytes());
            txn.put(key(second), n.to_string().into_bytes());
            txn.put(format!("pair/{n:05}").into_bytes(), format!("{first} {second}").into_bytes());
            if n >= 50 {
                txn.delete(format!("pair/{:05}", n - 50).into_bytes());
            }
            txn.put(b"a/last".to_vec(), n.to_string().into_bytes());
            txn.put(b"z/last".to_vec(), n.to_string().into_bytes());
            Ok(())
        })
    };
    let fill = work(move |txn| {
        (0..KEYS).for_each(|n| txn.put(key(n), long(100, n)));
        Ok(())
    });
    store.commit(fill).await.unwrap();
    store.commit(round(0)).await.unwrap();
    let stop = Arc::new(AtomicUsize::new(0));
    let writer = {
        let (store, stop) = (store.clone(), stop.clone());
        tokio::spawn(async move {
            let mut n = 1;
            while stop.load(Ordering::SeqCst) == 0 {
                store.commit(round(n)).await.unwrap();
                n += 1;
                tokio::task::yield_now().await;
            }
        })
    };
    for _ in 0..5 {
        let mut copy = store.copy().unwrap();
        let map = tokio::task::spawn_blocking(move || copied(&mut *copy)).await.unwrap();
        let last = number(map.get(b"a/last".as_slice()).map(Vec::as_slice)) as usize;
        assert_eq!(number(map.get(b"z/last".as_slice()).map(Vec::as_slice)) as usize, last);
        let pairs: Vec<&Vec<u8>> = map.keys().filter(|key| key.starts_with(b"pair/")).collect();
        let expected: Vec<Vec<u8>> =
            ((last + 1).saturating_sub(50)..=last).map(|n| format!("pair/{n:05}").into_bytes()).collect();
        assert_eq!(pairs, expected.iter().collect::<Vec<_>>(), "the rounds of several moments");
        for n in (last + 1).saturating_sub(10)..=last {
            for at in [n * 37 % 1000, 3000 + n * 53 % 1000] {
                assert_eq!(map[&key(at)], n.to_string().into_bytes(), "{at} at {last}");
            }
        }
    }
    stop.store(1, Ordering::SeqCst);
    writer.await.unwrap();
}

pub(super) async fn a_copy_of_long_values_and_of_nothing(store: Arc<impl Store>) {
    assert!(copied(&mut *store.copy().unwrap()).is_empty());
    for n in 0..20 {
        store.commit(put(format!("long/{n}"), long(900_000, n))).await.unwrap();
    }
    store.commit(put("", "the empty key is a key")).await.unwrap();
    drop(store.copy());
    let map = copied(&mut *store.copy().unwrap());
    assert_eq!(map.into_iter().collect::<Vec<_>>(), all(&*store, b"").await);
}

pub(super) async fn a_commit_goes_on_when_its_future_is_dropped(store: Arc<impl Store>) {
    for n in 0..50 {
        drop(store.commit(put(format!("k{n}"), "1")));
    }
    // Works are done in the order in which they came in.
    store.commit(put("end", "1")).await.unwrap();
    assert_eq!(all(&*store, b"k").await.len(), 50);
}

pub(super) async fn scans_keep_to_prefix_order_after_and_limit(store: Arc<impl Store>) {
    for key in ["a", "b/1", "b/2", "b/2\0", "b/3", "b0", "c"] {
        store.commit(put(key, format!("v{key}"))).await.unwrap();
    }
    let scan = async |after: Option<&str>, reverse: bool, limit: usize| {
        let after = after.map(|after| after.as_bytes().to_vec());
        let pairs = store.scan(Scan { prefix: b"b/".to_vec(), after, reverse, limit }).await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let keys: Vec<String> = pairs
            .into_iter()
            .map(|(key, value)| (text(key), text(value)))
            .map(|(key, value)| {
                assert_eq!(format!("v{key}"), value);
                key
            })
            .collect();
        keys.join(" ")
    };
    assert_eq!(scan(None, false, 9).await, "b/1 b/2 b/2\0 b/3");
    assert_eq!(scan(None, true, 9).await, "b/3 b/2\0 b/2 b/1");
    assert_eq!(scan(None, false, 2).await, "b/1 b/2");
    assert_eq!(scan(None, true, 2).await, "b/3 b/2\0");
    assert_eq!(scan(None, false, 0).await, "");
    assert_eq!(scan(Some("b/2"), false, 9).await, "b/2\0 b/3");
    assert_eq!(scan(Some("b/2\0"), true, 9).await, "b/2 b/1");
    assert_eq!(scan(Some("b/25"), false, 9).await, "b/3");
    assert_eq!(scan(Some("a"), false, 9).await, "b/1 b/2 b/2\0 b/3");
    assert_eq!(scan(Some("a"), true, 9).await, "");
    assert_eq!(scan(Some("c"), false, 9).await, "");
    assert_eq!(scan(Some("c"), true, 9).await, "b/3 b/2\0 b/2 b/1");
    assert_eq!(scan(Some("b/3"), false, 9).await, "");
    assert_eq!(scan(Some("b/1"), true, 9).await, "");
}

pub(super) async fn prefixes_that_end_in_0xff_are_scanned_to_their_end(store: Arc<impl Store>) {
    let keys: [&[u8]; 7] =
        [b"", b"\xfe", b"\xfe\xff", b"\xfe\xff\xff", b"\xff", b"\xff\xff", b"\xff\xff\xff\xff"];
    for key in keys {
        store.commit(put(key, key)).await.unwrap();
    }
    for prefix in keys {
        let wanted: Vec<Pair> = keys
            .iter()
            .filter(|key| key.starts_with(prefix))
            .map(|key| (key.to_vec(), key.to_vec()))
            .collect();
        assert_eq!(all(&*store, prefix).await, wanted);
        let scan = Scan { prefix: prefix.to_vec(), after: None, reverse: true, limit: 100 };
        assert_eq!(store.scan(scan).await.unwrap(), wanted.into_iter().rev().collect::<Vec<_>>());
    }
}

pub(super) async fn scans_agree_with_a_sorted_map(store: Arc<impl Store>) {
    let mut runner = TestRunner::deterministic();
    let byte = prop::sample::select(vec![0u8, 1, b'a', b'b', 0xfe, 0xff]);
    let key = prop::collection::vec(byte.clone(), 0..6);
    let draw_key = |runner: &mut TestRunner| key.new_tree(runner).unwrap().current();
    let mut map = BTreeMap::new();
    let mut answers = Vec::new();
    for n in 0..700usize {
        let key = draw_key(&mut runner);
        let value = long(n % 40, n);
        if n % 5 == 4 {
            map.remove(&key);
            answers.push(store.commit(delete(key)));
        } else {
            map.insert(key.clone(), value.clone());
            answers.push(store.commit(put(key, value)));
        }
    }
    for answer in answers {
        answer.await.unwrap();
    }
    let scans = (
        prop::collection::vec(byte, 0..3),
        prop::option::of(key.clone()),
        any::<bool>(),
        prop::sample::select(vec![0usize, 1, 7, 200, 10_000]),
    );
    for _ in 0..600 {
        let (prefix, after, reverse, limit) = scans.new_tree(&mut runner).unwrap().current();
        let within = |key: &Vec<u8>| {
            key.starts_with(&prefix) && after.as_ref().is_none_or(|a| if reverse { key < a } else { key > a })
        };
        let mut wanted: Vec<Pair> = map
            .iter()
            .filter(|(key, _)| within(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        if reverse {
            wanted.reverse();
        }
        wanted.truncate(limit);
        let scan = Scan { prefix, after, reverse, limit };
        assert_eq!(store.scan(scan.clone()).await.unwrap(), wanted, "{scan:?}");
    }
}

pub(super) async fn long_values_come_back_and_leave_no_trace_in_scans(store: Arc<impl Store>) {
    let lengths = [3583, 3584, 3585, 7168, 7169, 100_000, 3_000_000];
    for (n, length) in lengths.into_iter().enumerate() {
        // Keys that are prefixes of each other, so that parts of one could be mistaken for parts of another.
        let key = vec![0u8; n * 4 + 1];
        let value = long(length, n);
        let (written, expected) = (value.clone(), value.clone());
        let committed = store.commit(work(move |txn| {
            txn.put(vec![0u8; n * 4 + 1], written.clone());
            assert!(txn.get(&[0u8].repeat(n * 4 + 1))?.as_ref() == Some(&expected), "{length}");
            Ok(())
        }));
        committed.await.unwrap();
        assert!(store.get(&key).await.unwrap() == Some(value), "{length}");
    }
    for prefix in [&b""[..], b"\0", b"\0\0\0\0\0"] {
        let found = all(&*store, prefix).await;
        assert!(found.iter().all(|(key, value)| long(lengths[key.len() / 4], key.len() / 4) == *value));
        assert_eq!(found.len(), lengths.len() - prefix.len() / 4);
    }
    assert_eq!(all(&*store, b"\x01").await, []);
    assert_eq!(all(&*store, b"\x02").await, []);
    store.commit(delete(vec![0u8; 21])).await.unwrap();
    assert_eq!(store.get(&[0u8; 21]).await.unwrap(), None);
    assert!(store.get(&[0u8; 25]).await.unwrap() == Some(long(3_000_000, 6)));
}

pub(super) async fn values_change_between_long_and_short(store: Arc<impl Store>) {
    for (seed, length) in [9000, 20_000, 9000, 10, 4000, 0, 30_000].into_iter().enumerate() {
        store.commit(put("k", long(length, seed))).await.unwrap();
        assert!(store.get(b"k").await.unwrap() == Some(long(length, seed)), "{length}");
        assert_eq!(all(&*store, b"").await.len(), 1);
    }
    // Twice in one group, and back again.
    let works = [50_000, 5, 12_000].map(|length| put("k", long(length, 1)));
    let works = works.into_iter().chain([delete("k"), put("k", "end")]);
    let answers: Vec<_> = works.map(|work| store.commit(work)).collect();
    for answer in answers {
        answer.await.unwrap();
    }
    assert_eq!(all(&*store, b"").await, [(b"k".to_vec(), b"end".to_vec())]);
}

pub(super) async fn a_work_of_ten_megabytes_is_one_commit(store: Arc<impl Store>) {
    let committed = store.commit(work(|txn| {
        for n in 0..10_000usize {
            txn.put(format!("big/{n:05}").into_bytes(), long(1000, n));
        }
        Ok(())
    }));
    committed.await.unwrap();
    let found = all(&*store, b"big/").await;
    assert_eq!(found.len(), 10_000);
    assert!(found.iter().enumerate().all(|(n, (_, value))| *value == long(1000, n)));
    let keys: BTreeSet<_> = found.into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys.len(), 10_000);
}

pub(super) async fn health_tells_that_all_is_well(store: Arc<impl Store>) {
    store.commit(put("k", "v")).await.unwrap();
    let health = store.health();
    assert!(health.writer_alive && !health.failed && health.size_bytes > 0 && health.free_bytes > 0);
}

pub(super) async fn shut_finishes_what_was_submitted_and_refuses_the_rest(store: Arc<impl Store>) {
    let done = Arc::new(AtomicUsize::new(0));
    for n in 0..100 {
        let done = done.clone();
        drop(store.commit(work(move |txn| {
            std::thread::sleep(Duration::from_micros(200));
            txn.put(format!("k{n}").into_bytes(), b"v".to_vec());
            done.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })));
    }
    store.shut().await;
    assert_eq!(done.load(Ordering::Relaxed), 100);
    assert!(matches!(store.commit(put("late", "v")).await, Err(CommitError::Shut)));
    assert!(!store.health().writer_alive);
    store.shut().await;
}
