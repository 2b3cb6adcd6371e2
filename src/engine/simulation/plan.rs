//! What a seed is going to do to an engine: who asks for what and when, and how each life of the daemon ends.
//!
//! What is done is a [`Deed`], drawn in [`deeds_on`]. May import: `runbook`, `guard`, `journal`, `engine::verb`. Must
//! never: look at what happens.

use super::disk::Mishap;
use super::library::{Book, library};
use super::random::Random;
use super::time::Moment;
use crate::engine::verb::Verb;
use crate::guard::{Limit, Settings};
use crate::journal::TriggerKind;
use std::time::Duration;

/// One thing somebody does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    /// Asks for an execution.
    Create {
        /// The position of its runbook.
        book: usize,
        /// Its target.
        target: &'static str,
        /// An alert asks, or a person.
        is_alert: bool,
        /// How long it may wait in the queue, in milliseconds.
        patience: u64,
    },
    /// The alert of this execution resolves.
    Resolve,
    /// A person wants something of it.
    Say(Word),
}

/// Of which execution somebody wants something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whom {
    /// The one that was created.
    Itself,
    /// The last one it started as a step, however deep.
    Child,
    /// The last one that does it again, or takes it back.
    Anew(TriggerKind),
}

/// What a person says, in what words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word {
    /// What is wanted.
    pub(super) verb: Verb,
    /// Of whom.
    pub(super) whom: Whom,
    /// Who says it: a position in [`PEOPLE`].
    pub(super) who: usize,
    /// The step that is named.
    pub(super) step: Option<usize>,
    /// A digit for what a change is to; also whether it is of an input or of arguments, and whether a hash is given.
    pub(super) digit: u64,
    /// The answer is lost, so it is asked once more, so many milliseconds later.
    pub(super) again: Option<u64>,
}

/// Who there is, and their roles. The last one always consents to another plan than the one that is shown.
pub(super) const PEOPLE: &[(&str, &[&str])] = &[
    ("ann", &["operator"]),
    ("bob", &["operator"]),
    ("someone", &["operator"]),
    ("cay", &[]),
    ("eve", &["operator"]),
];

/// A deed, its moment, and the number of the execution it is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Intention {
    /// When; later where nobody is there to hear it.
    pub(super) at: Moment,
    /// Which execution, in the order of creation.
    pub(super) execution: usize,
    /// What.
    pub(super) deed: Deed,
}

/// How a life of the daemon ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It dies after so many milliseconds.
    Crash(u64),
    /// Something happens at this commit.
    Commit(u64, Mishap),
    /// It is told to go after so many milliseconds, and has so many for it.
    Drain(u64, u64),
}

/// The whole plan.
pub(super) struct Plan {
    /// The runbooks.
    pub(super) library: Vec<Book>,
    /// `automation.max_running`.
    pub(super) max_running: usize,
    /// What is done, in order.
    pub(super) deeds: Vec<Intention>,
    /// How the lives end, but for the last one, which goes on until all is over; and how long nobody is there then.
    pub(super) lives: Vec<(End, u64)>,
    /// From when to when the disk is full.
    pub(super) full: Vec<(Moment, Moment)>,
    /// Wake-ups that are lost, of a hundred.
    pub(super) lost_bells: u64,
    /// What holds automation back.
    pub(super) guards: Guards,
}

/// The guards in force, the same for all runbooks.
#[derive(Debug, Clone)]
pub(super) struct Guards {
    /// What is counted.
    pub(super) settings: Settings,
    /// From when to when nothing starts, and whether people may.
    pub(super) freezes: Vec<(Moment, Moment, bool)>,
}

impl Plan {
    /// The plan of `seed`.
    pub(super) fn of(seed: u64) -> Self {
        let mut random = Random::of(seed, "plan");
        let library = library(seed);
        let mut deeds = Vec::new();
        for execution in 0..usize::try_from(random.between(1, 6)).unwrap() {
            deeds_on(&mut random, execution, library.len(), &mut deeds);
        }
        deeds.sort_by_key(|intention| intention.at);
        let lives = (0..random.pick(&[0, 0, 1, 1, 2, 3, 4])).map(|_| {
            let down = random.pick(&[0, 20, 3000, 40_000]);
            (life_end(&mut random), random.below(down + 1))
        });
        let lives = lives.collect();
        let full = (0..random.pick(&[0, 0, 0, 1, 2])).map(|_| {
            let from = random.below(40_000);
            (from, from + random.between(1, 12_000))
        });
        let full = full.collect();
        let max_running = usize::try_from(random.between(1, 4)).unwrap();
        let lost_bells = random.pick(&[0, 0, 0, 10, 50]);
        let guards = guards(&mut Random::of(seed, "guards"));
        Self { library, max_running, deeds, lives, full, lost_bells, guards }
    }
}

impl Plan {
    /// When the creation of `execution` is first tried.
    pub(super) fn first_heard(&self, execution: usize) -> Moment {
        let of = |intention: &&Intention| {
            intention.execution == execution && matches!(intention.deed, Deed::Create { .. })
        };
        self.deeds.iter().find(of).map_or(0, |intention| intention.at)
    }
}

/// In every second story nothing is counted, so that much happens.
fn guards(random: &mut Random) -> Guards {
    let mut settings = Settings::off();
    if random.percent(50) {
        let seconds = Duration::from_secs;
        let mut limit = |counts: &[u32]| Limit {
            count: random.pick(counts),
            within: seconds(random.pick(&[20, 60, 300])),
        };
        let (runs, targets) = (limit(&[1, 2]), limit(&[1, 2]));
        settings.cooldown = random.percent(40).then(|| seconds(random.pick(&[5, 20, 90])));
        settings.max_runs = if random.percent(40) { vec![runs] } else { Vec::new() };
        settings.max_concurrent = random.percent(50).then(|| random.pick(&[1, 2]));
        settings.max_targets = random.percent(40).then_some(targets);
    }
    let freezes = (0..random.pick(&[0, 0, 0, 1, 2])).map(|_| {
        let from = random.below(40_000);
        (from, from + random.between(1, 40_000), random.percent(40))
    });
    let freezes = freezes.collect();
    Guards { settings, freezes }
}

fn deeds_on(random: &mut Random, execution: usize, books: usize, deeds: &mut Vec<Intention>) {
    let at = random.below(30_000);
    let book = usize::try_from(random.below(books as u64)).unwrap();
    let target = random.pick(&["a", "a", "b", "c"]);
    let (is_alert, patience) = (random.percent(70), random.pick(&[200, 5000, 60_000, 180_000]));
    deeds.push(Intention { at, execution, deed: Deed::Create { book, target, is_alert, patience } });
    if is_alert && random.percent(40) {
        deeds.push(Intention { at: at + random.below(45_000), execution, deed: Deed::Resolve });
    }
    let mut say = |at, word| deeds.push(Intention { at, execution, deed: Deed::Say(word) });
    for _ in 0..random.pick(&[0, 0, 0, 1, 2]) {
        say(at + random.below(45_000), word(random, &[Verb::Stop]));
    }
    for _ in 0..random.pick(&[0, 0, 1, 3, 6]) {
        say(at + random.below(90_000), word(random, &Verb::ALL));
    }
    // Most of what people do, they do to one that is held.
    if random.percent(35) {
        let mut moment = at + random.below(30_000);
        say(moment, word(random, &[Verb::Pause]));
        for _ in 0..random.below(4) {
            moment += random.between(1, 8000);
            say(
                moment,
                word(random, &[Verb::Retry, Verb::Skip, Verb::Modify, Verb::Approve, Verb::Acknowledge]),
            );
        }
        say(moment + random.between(1, 20_000), word(random, &[Verb::Resume]));
    }
    for _ in 0..random.pick(&[0, 0, 1, 2]) {
        say(at + random.between(20_000, 240_000), word(random, &[Verb::Retry, Verb::Rollback]));
    }
}

/// One of `verbs`, said by anybody of anything.
pub(super) fn word(random: &mut Random, verbs: &[Verb]) -> Word {
    let whom = [
        Whom::Itself,
        Whom::Itself,
        Whom::Itself,
        Whom::Child,
        Whom::Anew(TriggerKind::Retry),
        Whom::Anew(TriggerKind::Rollback),
    ];
    let verb = random.pick(verbs);
    let needs_step = matches!(verb, Verb::Retry | Verb::Skip | Verb::Modify);
    let named = random.percent(if needs_step { 60 } else { 30 });
    Word {
        verb,
        whom: random.pick(&whom),
        who: usize::try_from(random.below(PEOPLE.len() as u64)).unwrap(),
        step: named.then(|| usize::try_from(random.below(5)).unwrap()),
        digit: random.below(10),
        again: random.percent(25).then(|| random.pick(&[0, 1, 700, 9000])),
    }
}

fn life_end(random: &mut Random) -> End {
    let mishaps = [
        Mishap::DieBefore,
        Mishap::DieBefore,
        Mishap::DieAfter,
        Mishap::DieAfter,
        Mishap::FailBefore,
        Mishap::FailAfter,
    ];
    match random.below(100) {
        0..40 => End::Crash(random.below(30_000)),
        40..85 => End::Commit(random.between(1, 30), random.pick(&mishaps)),
        _ => End::Drain(random.below(30_000), random.below(20_000)),
    }
}
