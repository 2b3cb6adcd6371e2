//! Random runbooks, each of them valid. What a runbook can say is a row of [`KINDS`], [`STEP_KEYS`], [`HEAD_KEYS`].
//!
//! A new kind or key is one more row. May import: `model`, `runbook`. Must never: make a runbook the parser refuses.

use super::random::Random;
use crate::model::RunbookId;
use crate::runbook::{self, Pinned};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

/// What a row sees of the step it is asked to write.
struct Spot {
    kind: &'static Kind,
    /// Its effect, where its kind may declare one.
    effect: Option<&'static str>,
    /// The steps that are over when it begins.
    over: Vec<usize>,
    is_finally: bool,
}

impl Spot {
    fn is_changing(&self) -> bool {
        self.effect.map_or(self.kind.name == "runbook", |effect| effect != "read_only")
    }
}

struct Kind {
    name: &'static str,
    /// Of the sum of all.
    weight: u64,
    /// Whether it may declare an effect that changes something.
    changing: bool,
    /// What a retry may be limited to; without anything it has no attempts to retry.
    fails: &'static [&'static str],
    /// Whether it can be done for each item of a list.
    list: bool,
    /// The lines; the number is the runbook's position, of which only earlier ones may be called.
    write: fn(&mut Random, u64) -> String,
}

const EXITS: &[&str] = &["\"timeout\"", "\"exit:75\"", "\"timeout\", \"exit:75\""];
const ANSWERS: &[&str] = &["\"timeout\"", "\"status:503\"", "\"timeout\", \"status:5xx\""];
const LATE: &[&str] = &["\"timeout\"", "\"connect\""];

const fn kind(name: &'static str, weight: u64, write: fn(&mut Random, u64) -> String) -> Kind {
    Kind { name, weight, changing: false, fails: &[], list: false, write }
}

/// What a step can be.
const KINDS: &[Kind] = &[
    Kind {
        changing: true,
        fails: EXITS,
        list: true,
        ..kind("command", 32, |random, _| {
            let args = random.pick(&["", "", ", args = [\"{{ inputs.x }}\"]"]);
            format!("command = {{ program = \"true\"{args} }}")
        })
    },
    Kind {
        changing: true,
        fails: EXITS,
        list: true,
        ..kind("script", 12, |_, _| text("script = { text = \"true\" }"))
    },
    Kind {
        fails: ANSWERS,
        list: true,
        ..kind("get", 6, |_, _| text("http = { url = \"http://127.0.0.1:1/\" }"))
    },
    Kind {
        changing: true,
        fails: ANSWERS,
        list: true,
        ..kind("post", 10, |random, _| {
            let method = random.pick(&["POST", "PUT", "DELETE"]);
            format!("http = {{ method = \"{method}\", url = \"http://127.0.0.1:1/\" }}")
        })
    },
    kind("wait", 10, |random, _| format!("wait = {{ for = \"{}ms\" }}", random.between(10, 20_000))),
    Kind {
        fails: LATE,
        ..kind("check_expr", 6, |random, _| {
            let must = random.percent(30);
            format!("check = {{ expr = \"labels.t == 'a'\", must = {must} }}")
        })
    },
    Kind {
        fails: EXITS,
        ..kind("check_command", 6, |random, _| {
            let must = random.percent(50);
            format!("check = {{ command = {{ program = \"true\" }}, must = {must} }}")
        })
    },
    kind("instruct", 4, |_, _| text("instruct = { text = \"Look.\" }")),
    kind("acknowledge", 6, |_, _| text("instruct = { text = \"Look.\", acknowledge = true }")),
    Kind {
        fails: LATE,
        list: true,
        ..kind("promql", 6, |_, _| text("promql = { query = \"up\", expect = \"== 1\" }"))
    },
    kind("until", 6, |random, _| {
        let until =
            random.pick(&["alert_resolved = true", "promql = \"up\", expect = \"== 1\", every = \"5s\""]);
        format!("wait = {{ until = {{ {until} }} }}")
    }),
    kind("approve", 10, |random, _| {
        let (expires, own) = (random.between(5, 90), random.percent(50));
        let count = random.pick(&[1, 1, 2]);
        let roles = random.pick(&["", "", ", roles = [\"operator\"]"]);
        format!(
            "approve = {{ message = \"May I?\", expires = \"{expires}s\", not_requester = {own}, count = {count}{roles} }}"
        )
    }),
    Kind {
        fails: LATE,
        list: true,
        ..kind("runbook", 12, |random, runbook| {
            let inputs = random.pick(&["", "", ", inputs = { on = \"b\" }", ", inputs = { on = \"d\" }"]);
            format!("runbook = {{ id = \"r{}\"{inputs} }}", random.below(runbook))
        })
    },
];

struct Key {
    /// Of a hundred.
    weight: u64,
    write: fn(&mut Random, &Spot) -> Option<String>,
}

/// What any step can say.
const STEP_KEYS: &[Key] = &[
    Key {
        weight: 60,
        // A wait must not be longer than its timeout, so what is short is for other kinds only.
        write: |random, spot| {
            let limited = spot.kind.name == "approve";
            (!limited).then(|| format!("timeout = \"{}s\"", random.between(21, 60)))
        },
    },
    Key {
        weight: 15,
        write: |random, spot| {
            (!spot.kind.fails.is_empty()).then(|| format!("total_timeout = \"{}s\"", random.between(60, 90)))
        },
    },
    Key {
        weight: 75,
        write: |random, spot| {
            let words = ["continue", "continue", "stop", "pause", "pause", "rollback"];
            let words = if spot.is_finally { &words[..5] } else { &words };
            Some(format!("on_failure = \"{}\"", random.pick(words)))
        },
    },
    Key {
        weight: 30,
        write: |random, spot| {
            if spot.over.is_empty() {
                return Some(text("when = \"labels.t == 'a'\""));
            }
            let (earlier, not) = (random.pick(&spot.over), random.pick(&["", "not "]));
            Some(format!("when = \"{not}steps.s{earlier}.ok\""))
        },
    },
    Key {
        weight: 40,
        write: |random, spot| (!spot.kind.fails.is_empty()).then(|| retry(random, spot.kind.fails)),
    },
    Key {
        weight: 60,
        write: |random, spot| {
            if !spot.is_changing() || spot.is_finally {
                return None;
            }
            let effect = random.pick(&["idempotent", "at_most_once", "keyed"]);
            let again =
                if random.percent(40) { format!(", {}", retry(random, EXITS)) } else { String::new() };
            Some(format!("undo = {{ command = {{ program = \"true\" }}, effect = \"{effect}\"{again} }}"))
        },
    },
    Key {
        weight: 40,
        write: |_, spot| spot.is_changing().then(|| text("probe = { command = { program = \"true\" } }")),
    },
    Key {
        weight: 20,
        write: |random, spot| {
            let items = ["\"x\"", "\"y\"", "\"z\""];
            let items = items[..usize::try_from(random.between(1, 3)).unwrap_or(1)].join(", ");
            let concurrency = random.between(1, 3);
            let each = || format!("for_each = {{ items = [{items}], concurrency = {concurrency} }}");
            spot.kind.list.then(each)
        },
    },
    Key {
        weight: 15,
        write: |random, spot| {
            (!spot.kind.fails.is_empty()).then(|| format!("breaker = \"b{}\"", random.below(2)))
        },
    },
];

/// Writes one line of the head.
type HeadKey = fn(&mut Random) -> String;

/// What the head can say; the rows see no step.
const HEAD_KEYS: &[(u64, HeadKey)] = &[
    (60, |random| format!("timeout = \"{}s\"", random.between(5, 120))),
    (80, |random| {
        format!("on_resolved = \"{}\"", random.pick(&["finish", "finish", "continue", "stop", "rollback"]))
    }),
    (30, |random| format!("breaker = \"{}\"", random.pick(&["aggressive", "tolerant"]))),
];

fn retry(random: &mut Random, on: &[&str]) -> String {
    let (attempts, initial) = (random.between(2, 4), random.between(10, 3000));
    let on = if random.percent(40) { format!(", retry_on = [{}]", random.pick(on)) } else { String::new() };
    format!("retry = {{ attempts = {attempts}, initial = \"{initial}ms\", max = \"8s\"{on} }}")
}

fn text(text: &str) -> String {
    text.to_owned()
}

const HEAD: &str = "mode = \"auto\"\ntarget = \"{{ inputs.on }}\"\n";
const INPUTS: &str = "[inputs.x]\ndefault = \"x0\"\npattern = 'x[0-9]'\n[inputs.on]\nfrom = \"labels.t\"\n";

/// One runbook of a library, with its text.
pub(super) struct Book {
    /// As parsed.
    pub(super) pinned: Arc<Pinned>,
    /// As written.
    pub(super) text: String,
}

/// A library of random runbooks.
pub(super) fn library(seed: u64) -> Vec<Book> {
    let mut random = Random::of(seed, "library");
    (0..random.between(1, 4))
        .map(|position| {
            let text = write(&mut random, position);
            let (id, file_name) =
                (RunbookId::new(&format!("r{position}")).unwrap(), format!("r{position}.toml"));
            let parsed = runbook::parse(&id, &file_name, &text);
            let runbook = parsed.runbook.unwrap_or_else(|| panic!("{:?}\n{text}", parsed.problems));
            let pinned = Pinned { runbook, version: 1, hash: parsed.hash, file_name };
            Book { pinned: Arc::new(pinned), text }
        })
        .collect()
}

fn write(random: &mut Random, runbook: u64) -> String {
    let mut out = format!("alerts = [\"A{runbook}\"]\n{HEAD}");
    for (weight, line) in HEAD_KEYS {
        if random.percent(*weight) {
            out += &line(random);
            out.push('\n');
        }
    }
    out += INPUTS;
    if random.percent(25) {
        out += "[guard]\nprecheck = { promql = \"up\", expect = \">= 0\" }\n";
    }
    let mut before = Vec::new();
    for _ in 0..random.between(1, 5) {
        step(random, runbook, &mut before, &mut out);
    }
    if random.percent(35) {
        let (within, hold) = (random.between(5, 60), random.below(5));
        out += &match random.percent(60) {
            true => format!(
                "[verify]\npromql = \"up\"\nexpect = \"== 1\"\nwithin = \"{within}s\"\nhold = \"{hold}s\"\n"
            ),
            false => format!("[verify]\nalert_resolved = true\nwithin = \"{within}s\"\n"),
        };
    }
    out
}

/// A step that is written: whether it is for the end, and what is over when it begins.
type Written = (bool, BTreeSet<usize>);

fn step(random: &mut Random, runbook: u64, before: &mut Vec<Written>, out: &mut String) {
    let mut lot = random.below(KINDS.iter().map(|kind| kind.weight).sum());
    let drawn = KINDS.iter().find(|kind| {
        let drawn = lot < kind.weight;
        lot = lot.saturating_sub(kind.weight);
        drawn
    });
    // The first of a library calls nobody, so that there is no circle.
    let kind = drawn.filter(|kind| kind.name != "runbook" || runbook > 0).unwrap_or(&KINDS[0]);
    let effects = ["read_only", "idempotent", "keyed", "at_most_once", "at_most_once"];
    let effect = kind.changing.then(|| random.pick(&effects));
    let (is_finally, index) = (random.percent(10), before.len());
    let (after, over) = order(random, is_finally, before);
    let spot = Spot { kind, effect, over: over.iter().copied().collect(), is_finally };
    before.push((is_finally, over));
    let body = (kind.write)(random, runbook);
    // Writing to a String cannot fail.
    let _infallible = write!(out, "[[steps]]\nid = \"s{index}\"\n{body}\n{after}");
    if let Some(effect) = effect {
        *out += &format!("effect = \"{effect}\"\n");
    }
    if is_finally {
        *out += "finally = true\n";
    }
    let undoable = spot.is_changing() && !is_finally;
    let irreversible = undoable && random.percent(4);
    if irreversible {
        *out += "irreversible = true\n";
    }
    for row in STEP_KEYS {
        if random.percent(row.weight)
            && let Some(line) = (row.write)(random, &spot)
            && !(irreversible && line.starts_with("undo"))
        {
            out.push_str(&line);
            out.push('\n');
        }
    }
}

/// The line `after`, if there is one, and what is over when the step begins.
fn order(random: &mut Random, is_finally: bool, before: &[Written]) -> (String, BTreeSet<usize>) {
    let same = || (0..before.len()).filter(|index| before[*index].0 == is_finally);
    let explicit = random.percent(40);
    let after: Vec<usize> = match explicit {
        true => same().filter(|_| random.percent(50)).collect(),
        false => same().next_back().into_iter().collect(),
    };
    let mut over: BTreeSet<usize> = after.iter().copied().collect();
    over.extend(after.iter().flat_map(|index| before[*index].1.iter().copied()));
    if is_finally {
        // At the end, all that is not for the end is over.
        over.extend((0..before.len()).filter(|index| !before[*index].0));
    }
    let names: Vec<String> = after.iter().map(|index| format!("\"s{index}\"")).collect();
    (if explicit { format!("after = [{}]\n", names.join(", ")) } else { String::new() }, over)
}
