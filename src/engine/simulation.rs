//! The whole core under a seed: random runbooks, people, faults and crashes over simulated time, then every promise.
//!
//! `RUNBOOKD_SEED=123 cargo test --lib simulation` plays one seed and shows what happened; `RUNBOOKD_SEEDS` and
//! `RUNBOOKD_FIRST_SEED` choose how many and which (`make simulate`). `library` draws runbooks, `plan` what is done
//! to them, `life` and `people` play it with `disk`, `world` and `time` around a real engine, `check` judges, `facts` alone
//! knows the shapes of events. The same seed gives the same story on every machine.

mod check;
mod disk;
mod facts;
mod library;
mod life;
mod people;
mod plan;
mod random;
mod time;
mod world;

use check::Findings;
use life::{Sabotage, Stage};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// How many seeds are played where nobody says.
const SEEDS: u64 = 250;
/// Failures that are enough to begin with.
const SHOWN: usize = 8;

/// Plays a seed; the stage afterwards, and what came out.
fn play(seed: u64, sabotage: Sabotage) -> (Stage, Findings) {
    let stage = Stage::new(seed, sabotage);
    stage.play();
    let findings = check::check(&stage);
    (stage, findings)
}

/// Everything that happened, as text: the ledger, then the journals.
fn story(stage: &Stage) -> String {
    let mut out = String::new();
    for run in stage.ledger.lock().unwrap().iter() {
        out += &format!("{run:?}\n");
    }
    for header in check::headers(stage).unwrap() {
        let id = &header.id;
        let entries = futures_util::FutureExt::now_or_never(stage.records().journal(id, 0, usize::MAX));
        for entry in entries.unwrap().unwrap() {
            out += &format!("{id} {} {} {:?}\n", entry.seq, time::moment_of(entry.at), entry.event);
        }
    }
    out += &format!("{:?}\n", stage.memory.lock().unwrap());
    out
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// How to see it again, in one line.
fn again(seed: u64, what: &str) -> String {
    format!("{what}\n    RUNBOOKD_SEED={seed} cargo test --lib simulation -- --nocapture")
}

#[test]
fn every_promise_is_kept_under_every_seed() {
    if let Some(seed) = number("RUNBOOKD_SEED") {
        let plan = plan::Plan::of(seed);
        for book in &plan.library {
            println!("---- {}\n{}", book.pinned.runbook.id, book.text);
        }
        println!("---- {:?} {:?}\n{:#?}", plan.lives, plan.full, plan.deeds);
        let (stage, Findings { wrong, .. }) = play(seed, Sabotage::None);
        println!("{}", story(&stage));
        assert!(wrong.is_empty(), "{}", again(seed, &wrong.join("\n")));
        return;
    }
    let (first, count) =
        (number("RUNBOOKD_FIRST_SEED").unwrap_or(0), number("RUNBOOKD_SEEDS").unwrap_or(SEEDS));
    let (next, began) = (AtomicU64::new(first), Instant::now());
    let failed: Mutex<Vec<String>> = Mutex::default();
    let (effects, all_seen) = (AtomicU64::new(0), Mutex::new(BTreeSet::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while failed.lock().unwrap_or_else(PoisonError::into_inner).len() < SHOWN {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= first + count {
                        return;
                    }
                    let played = catch_unwind(AssertUnwindSafe(|| play(seed, Sabotage::None)));
                    let wrong = match played {
                        Ok((stage, Findings { wrong, seen })) => {
                            all_seen.lock().unwrap_or_else(PoisonError::into_inner).extend(seen);
                            effects.fetch_add(stage.ledger.lock().unwrap().len() as u64, Ordering::SeqCst);
                            wrong
                        }
                        Err(_) => vec!["it panicked, see above".to_owned()],
                    };
                    if !wrong.is_empty() {
                        let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                        failed.push(again(seed, &wrong.join("\n")));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
    let (took, effects) = (began.elapsed(), effects.into_inner());
    println!("{count} seeds from {first} on, {effects} effects, {took:?}");
    assert!(effects > count, "only {effects} effects in {count} seeds: this proves little");
    let seen = all_seen.into_inner().unwrap();
    let never: Vec<&str> = facts::words().filter(|word| !seen.contains(word)).collect();
    assert!(count < SEEDS || never.is_empty(), "in {count} seeds there was never: {}", never.join(", "));
}

#[test]
fn the_same_seed_tells_the_same_story() {
    for seed in 0..40 {
        let [first, second] = [(); 2].map(|()| story(&play(seed, Sabotage::None).0));
        assert!(first == second, "{}", again(seed, "two plays of one seed differ"));
    }
}

#[test]
fn a_store_that_lies_and_a_world_that_stutters_are_found_out() {
    let finds = |sabotage: fn(u64) -> Sabotage| {
        (0..30).filter(move |seed| {
            let played = catch_unwind(AssertUnwindSafe(|| play(*seed, sabotage(*seed)).1));
            played.map_or(true, |findings| !findings.wrong.is_empty())
        })
    };
    // Not every lie is about something that matters afterwards, but most are.
    assert!(finds(|seed| Sabotage::Lie(seed % 7 + 2)).count() > 10);
    assert!(finds(|_| Sabotage::Stutter).count() > 20);
}
