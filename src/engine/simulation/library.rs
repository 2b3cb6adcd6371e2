//! Random runbooks, each of them valid. What a runbook can say is a row of [`KINDS`], [`STEP_KEYS`], [`HEAD_KEYS`].
//!
//! A new kind or key is one more row. A row is used only when the parser takes its sample, so a row may be here
//! before the key is. May import: `model`, `runbook`. Must never: make a runbook the parser refuses.

use super::random::Random;
use crate::model::RunbookId;
use crate::runbook::{self, Pinned};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

/// What a row sees of the step it is asked to write.
pub(super) struct Spot<'s> {
    /// The step's position.
    index: usize,
    /// Its effect, where its kind may declare one.
    effect: Option<&'s str>,
    /// The runbook's position in the library; only earlier ones may be called.
    runbook: usize,
}

struct Kind {
    name: &'static str,
    /// Of a hundred.
    weight: u64,
    /// Whether it may declare an effect that changes something.
    changing: bool,
    write: fn(&mut Random, &Spot<'_>) -> String,
}

/// What a step can be.
const KINDS: &[Kind] = &[
    Kind {
        name: "command",
        weight: 30,
        changing: true,
        write: |_, _| text("command = { program = \"true\" }"),
    },
    Kind { name: "script", weight: 15, changing: true, write: |_, _| text("script = { text = \"true\" }") },
    Kind {
        name: "get",
        weight: 8,
        changing: false,
        write: |_, _| text("http = { url = \"http://127.0.0.1:1/\" }"),
    },
    Kind {
        name: "post",
        weight: 12,
        changing: true,
        write: |random, _| {
            let method = random.pick(&["POST", "PUT", "DELETE"]);
            format!("http = {{ method = \"{method}\", url = \"http://127.0.0.1:1/\" }}")
        },
    },
    Kind {
        name: "wait",
        weight: 15,
        changing: false,
        write: |random, _| format!("wait = {{ for = \"{}ms\" }}", random.between(10, 20_000)),
    },
    Kind {
        name: "check_expr",
        weight: 8,
        changing: false,
        write: |random, _| {
            let must = random.percent(30);
            format!("check = {{ expr = \"labels.t == 'a'\", must = {must} }}")
        },
    },
    Kind {
        name: "check_command",
        weight: 7,
        changing: false,
        write: |random, _| {
            let must = random.percent(50);
            format!("check = {{ command = {{ program = \"true\" }}, must = {must} }}")
        },
    },
    Kind {
        name: "instruct",
        weight: 5,
        changing: false,
        write: |_, _| text("instruct = { text = \"Look.\" }"),
    },
    Kind {
        name: "acknowledge",
        weight: 5,
        changing: false,
        write: |_, _| text("instruct = { text = \"Look.\", acknowledge = true }"),
    },
    Kind {
        name: "promql",
        weight: 6,
        changing: false,
        write: |_, _| text("promql = { query = \"up\", expect = \"== 1\" }"),
    },
    Kind {
        name: "until",
        weight: 6,
        changing: false,
        write: |random, _| {
            let until =
                random.pick(&["alert_resolved = true", "promql = \"up\", expect = \"== 1\", every = \"5s\""]);
            format!("wait = {{ until = {{ {until} }} }}")
        },
    },
    Kind {
        name: "approve",
        weight: 6,
        changing: false,
        write: |random, _| {
            let expires = random.between(5, 60);
            format!("approve = {{ message = \"May I?\", expires = \"{expires}s\", not_requester = false }}")
        },
    },
    Kind {
        name: "runbook",
        weight: 6,
        changing: false,
        // The first of a library calls nobody, so that there is no circle.
        write: |random, spot| match spot.runbook {
            0 => text("instruct = { text = \"Look.\" }"),
            above => format!("runbook = {{ id = \"r{}\" }}", random.below(above as u64)),
        },
    },
];

struct Key {
    name: &'static str,
    /// Whether the parser takes it, found out by this: lines of a step, or of the head.
    sample: &'static str,
    /// Of a hundred.
    weight: u64,
    write: fn(&mut Random, &Spot<'_>) -> Option<String>,
}

/// What any step can say.
const STEP_KEYS: &[Key] = &[
    Key {
        name: "timeout",
        sample: "timeout = \"5s\"",
        weight: 60,
        // A wait must not be longer than its timeout, so what is short is for other kinds only.
        write: |random, _| Some(format!("timeout = \"{}s\"", random.between(21, 60))),
    },
    Key {
        name: "on_failure",
        sample: "on_failure = \"stop\"",
        weight: 70,
        write: |random, _| {
            let more = accepts("pause").then_some("pause");
            let words: Vec<&str> =
                ["continue", "continue", "stop", "rollback"].into_iter().chain(more).collect();
            Some(format!("on_failure = \"{}\"", random.pick(&words)))
        },
    },
    Key {
        name: "pause",
        sample: "command = { program = \"true\" }\non_failure = \"pause\"",
        weight: 0,
        write: |_, _| None,
    },
    Key {
        name: "when",
        sample: "when = \"true\"",
        weight: 35,
        write: |random, spot| {
            if spot.index == 0 {
                return Some(text("when = \"labels.t == 'a'\""));
            }
            let earlier = random.below(spot.index as u64);
            let not = random.pick(&["", "not "]);
            Some(format!("when = \"{not}steps.s{earlier}.ok\""))
        },
    },
    Key {
        name: "retry",
        sample: "retry = { attempts = 2, initial = \"1s\" }",
        weight: 40,
        write: |random, _| {
            let (attempts, initial) = (random.between(2, 4), random.between(10, 3000));
            let on = random.pick(&["", ", retry_on = [\"timeout\", \"exit:75\"]"]);
            Some(format!("retry = {{ attempts = {attempts}, initial = \"{initial}ms\", max = \"8s\"{on} }}"))
        },
    },
    Key {
        name: "undo",
        sample: "command = { program = \"true\" }\nundo = { command = { program = \"true\" } }",
        weight: 50,
        write: |random, spot| {
            spot.effect.filter(|effect| *effect != "read_only")?;
            let effect = random.pick(&["idempotent", "at_most_once", "keyed"]);
            Some(format!("undo = {{ command = {{ program = \"true\" }}, effect = \"{effect}\" }}"))
        },
    },
    Key {
        name: "probe",
        sample: "command = { program = \"true\" }\nprobe = { command = { program = \"true\" } }",
        weight: 40,
        write: |_, spot| {
            spot.effect.filter(|effect| *effect == "at_most_once")?;
            Some(text("probe = { command = { program = \"true\" } }"))
        },
    },
    Key {
        name: "after",
        sample: "after = []",
        weight: 35,
        write: |random, spot| {
            let earlier = (0..spot.index).filter(|_| random.percent(50)).map(|index| format!("\"s{index}\""));
            Some(format!("after = [{}]", earlier.collect::<Vec<_>>().join(", ")))
        },
    },
    Key {
        name: "for_each",
        sample: "command = { program = \"true\" }\nfor_each = { items = [\"a\"], concurrency = 1 }",
        weight: 15,
        write: |random, spot| {
            spot.effect?;
            let items = ["\"x\"", "\"y\"", "\"z\""];
            let count = usize::try_from(random.below(4)).unwrap_or(0);
            let concurrency = random.between(1, 3);
            let items = items[..count].join(", ");
            Some(format!("for_each = {{ items = [{items}], concurrency = {concurrency} }}"))
        },
    },
    Key {
        name: "finally",
        sample: "command = { program = \"true\" }\nfinally = true",
        weight: 8,
        write: |_, spot| spot.effect.map(|_| text("finally = true")),
    },
];

/// What the head can say; the rows see no step.
const HEAD_KEYS: &[Key] = &[
    Key {
        name: "head_timeout",
        sample: "timeout = \"5s\"",
        weight: 60,
        write: |random, _| Some(format!("timeout = \"{}s\"", random.between(5, 120))),
    },
    Key {
        name: "on_resolved",
        sample: "on_resolved = \"stop\"",
        weight: 70,
        write: |random, _| {
            let more = accepts("on_resolved_rollback").then_some("rollback");
            let words: Vec<&str> = ["finish", "continue", "stop"].into_iter().chain(more).collect();
            Some(format!("on_resolved = \"{}\"", random.pick(&words)))
        },
    },
    Key { name: "on_resolved_rollback", sample: "on_resolved = \"rollback\"", weight: 0, write: |_, _| None },
];

fn text(text: &str) -> String {
    text.to_owned()
}

const HEAD: &str = "mode = \"auto\"\nalerts = [\"A\"]\ntarget = \"{{ labels.t }}\"\n";

/// Whether the parser takes what the row called `name` writes.
fn accepts(name: &str) -> bool {
    static KNOWN: OnceLock<BTreeSet<&'static str>> = OnceLock::new();
    let known = KNOWN.get_or_init(|| {
        let mut known = BTreeSet::new();
        let mut try_out = |name, body: String| {
            if parse("r9", &format!("{HEAD}{body}")).is_some() {
                known.insert(name);
            }
        };
        let spot = Spot { index: 0, effect: Some("at_most_once"), runbook: 1 };
        for kind in KINDS {
            let kind_text = (kind.write)(&mut Random::of(0, kind.name), &spot);
            try_out(kind.name, format!("[[steps]]\nid = \"s0\"\n{kind_text}\n"));
        }
        for key in STEP_KEYS {
            let kind = if key.sample.contains("command") { "" } else { "command = { program = \"true\" }\n" };
            try_out(key.name, format!("[[steps]]\nid = \"s0\"\n{kind}{}\n", key.sample));
        }
        for key in HEAD_KEYS {
            let step = "[[steps]]\nid = \"s0\"\ncommand = { program = \"true\" }\n";
            try_out(key.name, format!("{}\n{step}", key.sample));
        }
        known
    });
    known.contains(name)
}

/// The names of the rows that are in use, for the report of a run.
pub(super) fn in_use() -> Vec<&'static str> {
    let rows = STEP_KEYS.iter().chain(HEAD_KEYS).map(|key| key.name);
    KINDS.iter().map(|kind| kind.name).chain(rows).filter(|name| accepts(name)).collect()
}

fn parse(id: &str, text: &str) -> Option<Pinned> {
    let id = RunbookId::new(id).ok()?;
    let file_name = format!("{id}.toml");
    let parsed = runbook::parse(&id, &file_name, text);
    Some(Pinned { runbook: parsed.runbook?, version: 1, hash: parsed.hash, file_name })
}

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
    let count = usize::try_from(random.between(1, 3)).unwrap_or(1);
    (0..count)
        .map(|position| {
            let text = write(&mut random, position);
            let parsed = parse(&format!("r{position}"), &text);
            let pinned = parsed.unwrap_or_else(|| panic!("not a runbook:\n{text}"));
            Book { pinned: Arc::new(pinned), text }
        })
        .collect()
}

fn write(random: &mut Random, runbook: usize) -> String {
    let mut out = HEAD.to_owned();
    let spot = Spot { index: 0, effect: None, runbook };
    keys(random, HEAD_KEYS, &spot, &mut out);
    for index in 0..usize::try_from(random.between(1, 5)).unwrap_or(1) {
        step(random, index, runbook, &mut out);
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

fn step(random: &mut Random, index: usize, runbook: usize, out: &mut String) {
    let kinds: Vec<&Kind> = KINDS.iter().filter(|kind| accepts(kind.name)).collect();
    let mut lot = random.below(kinds.iter().map(|kind| kind.weight).sum());
    let kind = kinds
        .iter()
        .find(|kind| {
            let drawn = lot < kind.weight;
            lot = lot.saturating_sub(kind.weight);
            drawn
        })
        .map_or(&KINDS[0], |kind| *kind);
    let effect = kind
        .changing
        .then(|| random.pick(&["read_only", "idempotent", "keyed", "at_most_once", "at_most_once"]));
    let spot = Spot { index, effect, runbook };
    let body = (kind.write)(random, &spot);
    // Writing to a String cannot fail.
    let _infallible = write!(out, "[[steps]]\nid = \"s{index}\"\n{body}\n");
    if let Some(effect) = effect {
        *out += &format!("effect = \"{effect}\"\n");
    }
    keys(random, STEP_KEYS, &spot, out);
}

fn keys(random: &mut Random, rows: &[Key], spot: &Spot<'_>, out: &mut String) {
    for row in rows.iter().filter(|row| accepts(row.name)) {
        if random.percent(row.weight)
            && let Some(line) = (row.write)(random, spot)
        {
            out.push_str(&line);
            out.push('\n');
        }
    }
}
