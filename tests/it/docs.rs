//! The documents say what the program does: every code and metric is explained, every link leads somewhere, and
//! what they tell to type works.
//!
//! A fenced block of the README or of SRE.md whose info string is `sh test` is executed, all of a document in order in
//! one shell, in an empty directory, with this build's `runbookd` in the path and a free address in place of the default one.

use crate::support::daemon::BINARY;
use crate::support::process::{Process, free_address, program};
use runbookd::admit::GATES;
use runbookd::model::{Reason, RunbookId, Timestamp};
use runbookd::telemetry::{Build, Gauges, Metrics};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const DEFAULT_ADDRESS: &str = "127.0.0.1:9796";

/// Those whose links are held to lead somewhere.
const DOCUMENTS: [&str; 7] = [
    "README.md",
    "SRE.md",
    "CHANGELOG.md",
    "ARCHITECTURE.md",
    "MIGRATION.md",
    "runbooks/README.md",
    "config/README.md",
];

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

#[test]
fn every_reason_code_is_a_line_of_a_table_in_sre_md() {
    let text = read("SRE.md");
    let missing: Vec<_> = Reason::ALL
        .iter()
        .filter(|reason| !text.lines().any(|line| line.starts_with(&format!("| `{reason}` | "))))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_metric_family_is_told_in_sre_md_and_none_that_does_not_exist() {
    let text = read("SRE.md");
    let metrics = Metrics::new(&Build { version: "1", revision: "r" }, Timestamp::UNIX_EPOCH);
    let (_, exposed) = metrics.encode(None, &Gauges::default());
    let families: Vec<&str> =
        exposed.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next()).collect();
    assert!(families.len() > 20, "{families:?}");
    let names =
        |family: &str| text.contains(&format!("`{family}`")) || text.contains(&format!("`{family}{{"));
    let missing: Vec<_> = families.iter().filter(|family| !names(family)).collect();
    assert!(missing.is_empty(), "not told: {missing:?}");
    let told = text.lines().filter_map(|line| line.strip_prefix("| `runbookd_")?.split(['`', '{']).next());
    let unknown: Vec<_> =
        told.filter(|name| !families.contains(&format!("runbookd_{name}").as_str())).collect();
    assert!(unknown.is_empty(), "told, but not exposed: {unknown:?}");
}

#[test]
fn every_shipped_runbook_is_told_in_sre_md_with_its_mode_and_its_inputs() {
    let text = read("SRE.md");
    let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("runbooks")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let ids = names.filter_map(|name| RunbookId::new(name.strip_suffix(".toml")?).ok());
    for id in ids {
        let file = read(&format!("runbooks/{id}.toml"));
        let runbook = runbookd::runbook::parse(&id, "runbook", &file).runbook.unwrap();
        let line = text.lines().find(|line| line.starts_with(&format!("| `{id}` | "))).unwrap_or_default();
        assert!(line.contains(&format!("| `{}` |", runbook.mode.as_str())), "{id}: {line}");
        for input in &runbook.inputs {
            assert!(line.contains(&format!("`{}`", input.name)), "{id} takes {}: {line}", input.name);
        }
    }
}

#[test]
fn every_link_leads_to_a_file_or_a_heading() {
    for document in DOCUMENTS {
        let text = read(document);
        let base = Path::new(document).parent().unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("https://") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let file =
                if file.is_empty() { document.to_owned() } else { base.join(file).display().to_string() };
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(&file);
            assert!(path.exists(), "{document} links to {file}, which does not exist");
            let found = heading.is_empty() || headings(&read(&file)).any(|known| known == heading);
            assert!(found, "{document} links to {link}, and {file} has no such heading");
        }
    }
}

#[test]
fn every_room_of_the_source_is_named_in_the_architecture_and_no_other() {
    let text = read("ARCHITECTURE.md");
    let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let mut rooms: Vec<String> = entries
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    let mut named: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `src/")?.split_once("` | "))
        .filter_map(|(room, said)| said.contains(' ').then_some(room))
        .collect();
    rooms.sort();
    named.sort_unstable();
    assert!(rooms.len() > 20, "{rooms:?}");
    assert_eq!(named, rooms);
}

#[test]
fn the_gates_stand_in_the_architecture_in_the_order_they_are_asked() {
    let text = read("ARCHITECTURE.md");
    let section = text.split("### The order of gates\n").nth(1).unwrap().split("\n###").next().unwrap();
    let asked: Vec<&str> = GATES.iter().map(|(reason, _)| reason.as_str()).collect();
    let told: Vec<&str> = section.split('`').skip(1).step_by(2).filter(|word| asked.contains(word)).collect();
    assert_eq!(told, asked);
}

/// The blocks of a document that are TOML, each with the line it begins on.
fn toml_blocks(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split("```toml\n").skip(1).filter_map(move |rest| {
        let block = rest.split("```").next()?;
        let before = block.as_ptr() as usize - text.as_ptr() as usize;
        Some((text[..before].lines().count() + 1, block))
    })
}

#[test]
fn every_runbook_in_a_guide_can_be_read_without_a_problem() {
    let id = RunbookId::new("example").unwrap();
    for (document, at_least) in [("runbooks/README.md", 8), ("MIGRATION.md", 2)] {
        let text = read(document);
        let mut count = 0;
        for (line, block) in toml_blocks(&text).filter(|(_, block)| block.contains("[[steps]]")) {
            let parsed = runbookd::runbook::parse(&id, document, block);
            assert!(parsed.problems.is_empty(), "from line {line}: {:#?}", parsed.problems);
            count += 1;
        }
        assert!(count >= at_least, "only {count} runbooks in {document}");
    }
}

/// The anchors of a document, as renderers make them.
pub(crate) fn headings(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter_map(|line| line.strip_prefix('#')).map(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        title
            .chars()
            .filter(|c| c.is_alphanumeric() || "-_ ".contains(*c))
            .collect::<String>()
            .replace(' ', "-")
    })
}

/// What the blocks to execute of `document` write, all of them typed into one shell.
fn typed(document: &str, at_least: usize) -> String {
    let text = read(document);
    let blocks: Vec<&str> =
        text.split("```sh test\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= at_least, "{document} has only {} blocks to execute", blocks.len());
    let address = free_address();
    let script = blocks.concat().replace(DEFAULT_ADDRESS, &address);
    // However it ends, the daemon it started in the background ends too.
    let script = format!(
        "set -eu\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}\necho all of it worked\n"
    );

    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("script"), script).unwrap();
    let bin = Path::new(BINARY).parent().unwrap().display().to_string();
    let mut command = Command::new("bash");
    command
        .arg("script")
        .current_dir(dir.path())
        .env("PATH", format!("{bin}:{}", std::env::var("PATH").unwrap()))
        .env("RUNBOOKD_URL", format!("http://{address}"))
        .env_remove("RUNBOOKD_TOKEN");
    let mut process = Process::start("typed", command, dir.path());
    let status = process.wait(Duration::from_secs(120));
    let said = process.log();
    assert!(status.success(), "{status}: {said}");
    assert!(said.contains("all of it worked"), "{said}");
    said
}

#[test]
fn what_the_readme_tells_to_type_works() {
    let said = typed("README.md", 4);
    for expected in ["Hello, web-1:9100", "succeeded", "\"reason\":\"repeat\""] {
        assert!(said.contains(expected), "no {expected:?} in: {said}");
    }
}

#[test]
fn the_drills_of_sre_md_show_what_they_say() {
    program("pgrep", "procps");
    let said = typed("SRE.md", 5);
    for expected in [
        "slow attempt 1: interrupted",
        "failed (unknown_outcome",
        "nobody: silent (finished)",
        "\"reason\":\"halted\"",
        "resumed           by runbookd",
        "automation.set",
        "rejected (unconfirmed)",
        "halted (file",
        "whole: ",
    ] {
        assert!(said.contains(expected), "no {expected:?} in: {said}");
    }
}

/// The names of all tests.
fn tests() -> Vec<String> {
    fn walk(dir: &Path, names: &mut Vec<String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.extension() {
                None if path.is_dir() => walk(&path, names),
                Some(kind) if kind == "rs" => {
                    let text = fs::read_to_string(&path).unwrap();
                    let lines = text.lines().filter_map(|line| line.trim_start().split_once("fn "));
                    names.extend(lines.filter_map(|(_, rest)| Some(rest.split_once('(')?.0.to_owned())));
                }
                _ => {}
            }
        }
    }
    let mut names = Vec::new();
    for dir in ["src", "tests/it"] {
        walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join(dir), &mut names);
    }
    names
}

#[test]
fn every_threat_and_every_item_of_the_checklist_has_the_tests_it_names() {
    let (text, tests) = (read("SECURITY.md"), tests());
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| id") && !line.starts_with("| item"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    for number in 1..=45 {
        let id = format!("T{number:02}");
        assert!(rows.iter().any(|row| row[0] == id), "{id} is not in SECURITY.md");
    }
    for row in &rows {
        let named: Vec<&str> =
            row.last().unwrap().split(',').map(|name| name.trim().trim_matches('`')).collect();
        let stands = |name: &&str| match name.strip_suffix('_') {
            Some(_) => tests.iter().any(|test| test.starts_with(*name)),
            None => tests.iter().any(|test| test == name),
        };
        let missing: Vec<_> = named.iter().filter(|name| !stands(name)).collect();
        let is_told = text.contains(&format!("**{}**", row[0]));
        assert!(missing.is_empty() || (is_told && named == [""]), "{}: {missing:?}", row[0]);
    }
    let told: Vec<&str> = tests.iter().filter_map(|test| test.get(..4)).collect();
    for id in
        told.iter().filter(|id| id.starts_with('t') && id.ends_with('_') && id[1..3].parse::<u8>().is_ok())
    {
        assert!(rows.iter().any(|row| row[0] == id[..3].to_uppercase()), "{id} is no threat");
    }
}
