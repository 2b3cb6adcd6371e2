//! What fuzzing has to hold of: every kept seed, and some thousand mutations of them, the same each time. libFuzzer
//! itself goes on from the same seeds by `make fuzz`.
//!
//! May import: the properties. Must never: be the only place where something found stays: a finding gets a seed.

#[path = "../fuzz/properties.rs"]
mod properties;

use crate::support::files::bytes_below;
use std::path::Path;

/// A target, what it asserts, and where its seeds are besides its own directory.
type Target = (&'static str, fn(&[u8]), &'static [&'static str]);

const TARGETS: &[Target] = &[
    ("webhook", properties::webhook, &["corpus/payloads"]),
    ("runbook", properties::runbook, &["corpus/runbook", "corpus/broken-runbook", "corpus/gates/library"]),
    ("template", properties::template, &[]),
    ("matcher", properties::matcher, &[]),
    ("jwt", properties::jwt, &[]),
    ("journal", properties::journal, &[]),
    ("audit", properties::audit, &[]),
    ("cron", properties::cron, &[]),
];

/// How many mutations a target gets.
const MUTATIONS: usize = 2_000;
/// Larger seeds are taken as they are.
const LARGEST: usize = 64 << 10;

/// Numbers that look random and are the same each time.
struct Lot(u64);

impl Lot {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit.max(1)
    }
}

/// One to four changes: a bit, a byte, a cut, a repetition, or a piece of another seed.
fn mutated(seeds: &[Vec<u8>], lot: &mut Lot) -> Vec<u8> {
    let mut data = seeds[lot.below(seeds.len())].clone();
    for _ in 0..=lot.below(4) {
        let (at, until) = (lot.below(data.len() + 1), lot.below(data.len() + 1));
        let (at, until) = (at.min(until), at.max(until));
        match lot.below(6) {
            0 if at < data.len() => data[at] ^= 1 << lot.below(8),
            1 if at < data.len() => data[at] = b"{}[]\"\\'\n\0,:=.#%$`-9e\xff"[lot.below(21)],
            2 => drop(data.drain(at..until)),
            3 => data.truncate(until),
            4 => {
                let piece = data[at..until.min(at + 40)].repeat(1 + lot.below(20));
                data.splice(at..at, piece);
            }
            _ => {
                let other = &seeds[lot.below(seeds.len())];
                let from = lot.below(other.len() + 1);
                let piece = other[from..other.len().min(from + 60)].to_vec();
                data.splice(at..at, piece);
            }
        }
    }
    data
}

#[test]
fn t42_every_seed_and_its_mutations_keep_what_is_promised_of_strange_bytes() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for (name, property, further) in TARGETS {
        let own = tests.join("fuzz/corpus").join(name);
        let dirs = std::iter::once(own).chain(further.iter().map(|dir| tests.join(dir)));
        let mut seeds: Vec<Vec<u8>> = dirs.flat_map(|dir| bytes_below(&dir)).collect();
        assert!(!seeds.is_empty(), "{name} has no seed");
        seeds.iter().for_each(|seed| property(seed));
        seeds.retain(|seed| seed.len() <= LARGEST);
        let mut lot = Lot(42);
        for _ in 0..MUTATIONS {
            property(&mutated(&seeds, &mut lot));
        }
    }
}

#[test]
fn t42_each_target_has_its_program() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/targets");
    let mut programs: Vec<String> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    programs.sort();
    let mut targets: Vec<&str> = TARGETS.iter().map(|(name, ..)| *name).collect();
    targets.sort_unstable();
    assert_eq!(programs, targets);
}
