//! Schedules that can start nothing, and schedules that the guards slow down.

use super::*;
use crate::guard::Limit;
use crate::model::RunbookId;
use crate::runbook;
use crate::schedule::{Cron, Zone};

fn schedule(cron: &str, inputs: &[(&str, &str)]) -> Schedule {
    Schedule {
        name: "s".to_owned(),
        cron: Cron::parse(cron).unwrap(),
        zone: Zone::named("UTC").unwrap(),
        runbook: RunbookId::new("act").unwrap(),
        inputs: inputs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        catch_up: None,
    }
}

fn now() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().unwrap()
}

#[test]
fn what_its_runbook_would_refuse_when_it_is_due_is_known_before() {
    let why = |head: &str, inputs: &[(&str, &str)]| {
        let text =
            format!("mode = \"auto\"\n{head}\n[[steps]]\nid = \"a\"\ncommand = {{ program = \"true\" }}\n");
        let parsed = runbook::parse(&RunbookId::new("act").unwrap(), "act.toml", &text);
        let runbook = parsed.runbook.unwrap_or_else(|| panic!("{:?}", parsed.problems));
        let pinned = Pinned { runbook, version: 1, hash: parsed.hash, file_name: "act.toml".to_owned() };
        refusal(&schedule("* * * * *", inputs), &pinned, now()).unwrap_or_default()
    };
    assert_eq!(why("target = \"db\"", &[]), "");
    assert_eq!(why("target = \"{{ labels.schedule }}\"", &[]), "", "a schedule has this label");
    let said = why("target = \"{{ labels.instance }}\"", &[]);
    assert!(said.starts_with("the target cannot be rendered: "), "{said}");
    let said = why("target = \"db\"\n[guard]\nlock = \"{{ labels.cluster }}\"", &[]);
    assert!(said.starts_with("the lock cannot be rendered: "), "{said}");
    let with_input = "target = \"{{ inputs.host }}\"\n[inputs.host]\nfrom = \"labels.host\"\nrequired = true";
    assert_eq!(why(with_input, &[("host", "db")]), "");
    assert!(why(with_input, &[]).starts_with("input `host`: it is required"));
    let said = why(with_input, &[("host", "*")]);
    assert!(said.contains('*'), "{said}");
}

#[test]
fn a_rhythm_that_the_guards_do_not_let_pass_is_counted_as_they_count() {
    let minutes = |count: u64| Duration::from_secs(60 * count);
    let built_in = Settings::default();
    let limit = |count, within| Limit { count, within };
    let cooldown = |minutes_of| Settings { cooldown: Some(minutes(minutes_of)), ..Settings::off() };
    let runs = |limits: &[Limit]| Settings { max_runs: limits.to_vec(), ..Settings::off() };
    let denied = "of the next 200 due times at least";
    for (cron, settings, expected) in [
        // Of twelve in an hour three start, each of them holds up the one behind it, and six are too many.
        (
            "*/5 * * * *",
            &built_in,
            Some(format!("{denied} 149 will be denied: 51 by cooldown (5m), 98 by max_runs (3 in 1h)")),
        ),
        ("*/10 * * * *", &built_in, Some(format!("{denied} 99 will be denied: 99 by max_runs (3 in 1h)"))),
        ("*/20 * * * *", &built_in, None),
        ("0 2 * * *", &built_in, None),
        ("0 0 29 2 *", &built_in, None),
        ("*/5 * * * *", &Settings::off(), None),
        ("*/5 * * * *", &cooldown(4), None),
        ("*/5 * * * *", &cooldown(5), Some(format!("{denied} 100 will be denied: 100 by cooldown (5m)"))),
        (
            "0 * * * *",
            &runs(&[limit(2, minutes(60)), limit(12, minutes(24 * 60))]),
            Some(format!("{denied} 96 will be denied: 96 by max_runs (2 in 1h, 12 in 1day)")),
        ),
    ] {
        assert_eq!(too_often(&schedule(cron, &[]), settings, now()), expected, "{cron}");
    }
}
