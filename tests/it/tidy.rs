//! The house, held to its own plan: who may import whom, how long a file may be, what must stand at its head.
//!
//! The compiler does not forbid a wrong import inside one crate; this does. May import: the standard library.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Room, and the rooms it may import. A room that is not here may not exist.
const ROOMS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("document", &[]),
    ("secret", &["model"]),
    ("config", &["document", "guard", "model", "schedule", "secret"]),
    ("runbook", &["document", "guard", "model"]),
    ("catalogue", &["document", "model"]),
    (
        "intake",
        &[
            "admit",
            "guard",
            "journal",
            "model",
            "plan",
            "report",
            "routing",
            "runbook",
            "schedule",
            "store",
            "telemetry",
        ],
    ),
    ("routing", &["model", "runbook"]),
    ("schedule", &["model"]),
    ("guard", &["document", "model"]),
    ("admit", &["guard", "journal", "model", "routing", "runbook"]),
    ("plan", &["admit", "journal", "model", "runbook", "step"]),
    (
        "engine",
        &["admit", "guard", "journal", "model", "plan", "report", "runbook", "step", "store", "telemetry"],
    ),
    ("journal", &["model"]),
    ("step", &["model", "secret"]),
    ("report", &["journal", "model", "runbook"]),
    ("notifier", &["model", "report", "secret", "step", "store", "telemetry"]),
    (
        "rehearsal",
        &[
            "admit",
            "document",
            "engine",
            "guard",
            "journal",
            "model",
            "plan",
            "runbook",
            "step",
            "store",
            "telemetry",
        ],
    ),
    ("store", &["guard", "journal", "model", "report"]),
    ("backup", &["guard", "journal", "model", "store"]),
    ("import", &["document", "model", "runbook"]),
    ("telemetry", &["model", "secret"]),
    ("auth", &["model"]),
    ("identity", &["auth", "journal", "model", "step", "store", "telemetry"]),
    ("api", &["guard", "journal", "model", "report", "runbook", "schedule", "store"]),
    (
        "http",
        &[
            "admit",
            "api",
            "auth",
            "backup",
            "document",
            "engine",
            "guard",
            "identity",
            "intake",
            "journal",
            "model",
            "report",
            "routing",
            "runbook",
            "secret",
            "step",
            "store",
            "telemetry",
        ],
    ),
    (
        "app",
        &[
            "admit",
            "api",
            "auth",
            "backup",
            "catalogue",
            "config",
            "document",
            "engine",
            "guard",
            "http",
            "identity",
            "intake",
            "journal",
            "model",
            "notifier",
            "rehearsal",
            "report",
            "routing",
            "runbook",
            "schedule",
            "secret",
            "step",
            "store",
            "telemetry",
        ],
    ),
    ("cli", &["app", "auth", "backup", "config", "document", "import", "model", "runbook", "telemetry"]),
];

/// Rooms and files without tasks, clock or store, and the words that would give them away.
const PURE: &[&str] = &[
    "model",
    "secret/forms.rs",
    "secret/redactor.rs",
    "document",
    "runbook",
    "routing",
    "schedule",
    "guard",
    "admit",
    "journal",
    "report",
    "import",
    "engine/transition.rs",
    "plan",
    "engine/amx.rs",
];
const IMPURE_WORDS: &[&str] =
    &["tokio::", "sled::", "std::fs", "std::net", "Instant::now", "SystemTime", "reqwest::Client", "hyper"];

/// A file that is longer wants to be two.
const MAX_LINES: usize = 600;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files_below(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, found);
        } else {
            found.push(path);
        }
    }
}

fn sources() -> Vec<(String, String)> {
    let src = root().join("src");
    let mut found = Vec::new();
    files_below(&src, &mut found);
    found.sort();
    found
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| {
            (path.strip_prefix(&src).unwrap().display().to_string(), std::fs::read_to_string(path).unwrap())
        })
        .collect()
}

fn room_of(file: &str) -> &str {
    file.split('/').next().unwrap().trim_end_matches(".rs")
}

/// Whether all of `file` is a test: it may use whatever it tests with.
fn is_test(file: &str) -> bool {
    file.contains("tests") || file.starts_with("engine/simulation")
}

/// The text without its tests, which may use whatever they test with.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap()
}

#[test]
fn rooms_import_only_what_the_plan_allows() {
    let plan: BTreeMap<&str, BTreeSet<&str>> =
        ROOMS.iter().map(|(room, allowed)| (*room, allowed.iter().copied().collect())).collect();
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let room = room_of(&file);
        if matches!(room, "lib" | "main") || is_test(&file) {
            continue;
        }
        let Some(allowed) = plan.get(room) else {
            wrong.push(format!("{file}: the room {room} is not in the plan"));
            continue;
        };
        for part in without_tests(&text).split("crate::").skip(1) {
            let imported: String =
                part.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            if plan.contains_key(imported.as_str())
                && imported != room
                && !allowed.contains(imported.as_str())
            {
                wrong.push(format!("{file}: {room} may not import {imported}"));
            }
        }
    }
    wrong.dedup();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_rooms_touch_neither_tasks_nor_disk_nor_clock() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let pure = PURE.iter().any(|pure| {
            file == *pure || file.starts_with(&format!("{pure}/")) || file == format!("{pure}.rs")
        });
        if !pure || is_test(&file) {
            continue;
        }
        for word in IMPURE_WORDS {
            let code = without_tests(&text).lines().filter(|line| !line.trim_start().starts_with("//"));
            if code.into_iter().any(|line| line.contains(word)) {
                wrong.push(format!("{file}: {word}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for_and_stays_short() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        if !text.starts_with("//!") {
            wrong.push(format!("{file}: no head that says what it is for"));
        }
        if text.lines().count() > MAX_LINES {
            wrong.push(format!("{file}: {} lines; two rooms may be hiding in it", text.lines().count()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn one_crate_stays_behind_one_interface() {
    // Unmaintained upstream, so each must be exchangeable by exchanging one place.
    for (file, text) in sources() {
        if text.contains("sled::") && !file.starts_with("store/") {
            panic!("{file} names sled outside of the store");
        }
        if text.contains("unsafe {") && !file.starts_with("step/process/") {
            panic!("{file} has unsafe code outside of step/process");
        }
    }
}

#[test]
fn nothing_is_left_for_later() {
    let marks: Vec<String> = ["todo!", "unimplemented!", "#[ignore"].map(|mark| format!("{mark}(")).into();
    let mut files = Vec::new();
    for dir in ["src", "tests"] {
        files_below(&root().join(dir), &mut files);
    }
    for path in files.iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs")) {
        let text = std::fs::read_to_string(path).unwrap();
        for mark in &marks {
            assert!(!text.contains(mark.as_str()), "{} has {mark}", path.display());
        }
    }
}
