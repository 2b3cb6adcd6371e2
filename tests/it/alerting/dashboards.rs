//! The dashboards, held to the rules of Grafana's dashboard-linter, and to what `generate.py` makes now.

use super::{files, run, stem};
use regex::Regex;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

/// Units of Grafana's that are in use; a unit it does not know it shows as if there were none.
const UNITS: &[&str] = &["short", "s", "bytes", "ops", "opm", "percentunit"];

const DATASOURCE: &str = "${datasource}";

/// Every dashboard with its name.
pub(super) fn dashboards() -> Vec<(String, Value)> {
    let read = |path: &std::path::PathBuf| {
        let dashboard = serde_json::from_str(&fs::read_to_string(path).unwrap());
        (stem(path).to_owned(), dashboard.unwrap_or_else(|error| panic!("{path:?}: {error}")))
    };
    files("dashboards", "json").iter().map(read).collect()
}

/// A list in a dashboard.
pub(super) fn list<'v>(value: &'v Value, pointer: &str) -> &'v [Value] {
    let found = value.pointer(pointer).and_then(Value::as_array);
    found.unwrap_or_else(|| panic!("no list {pointer} in {value:#}"))
}

/// The panels that ask something: all but the headings of rows.
pub(super) fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    list(dashboard, "/panels").iter().filter(|panel| panel["type"] != "row")
}

/// A text in a dashboard.
pub(super) fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

#[test]
fn the_dashboards_are_what_the_generator_makes() {
    run(Command::new("python3").args(["-B", "dashboards/generate.py", "--check"]));
    let names: Vec<_> = dashboards().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["guardrails", "internals", "overview", "runbook"]);
}

#[test]
fn every_dashboard_lets_people_choose_what_they_see_and_change_nothing() {
    let mut uids = BTreeSet::new();
    for (name, dashboard) in dashboards() {
        assert_eq!(dashboard["editable"], false, "{name}");
        assert!(uids.insert(text(&dashboard, "/uid").to_owned()), "{name}: its uid is taken");
        assert!(text(&dashboard, "/title").starts_with("runbookd / "), "{name}");
        assert!(text(&dashboard, "/description").ends_with('.'), "{name}");
        let variables = list(&dashboard, "/templating/list");
        let names: Vec<_> = variables.iter().map(|variable| text(variable, "/name")).collect();
        let more: &[&str] = if name == "runbook" { &["runbook"] } else { &[] };
        assert_eq!(names, [&["datasource", "job", "instance"], more].concat(), "{name}");
        let source = &variables[0];
        assert_eq!((text(source, "/type"), text(source, "/query")), ("datasource", "prometheus"), "{name}");
        assert_eq!(text(source, "/label"), "Data source", "{name}");
        for variable in &variables[1..] {
            let shown = format!("{name}: {variable:#}");
            assert_eq!(text(variable, "/type"), "query", "{shown}");
            assert_eq!(text(variable, "/datasource/uid"), DATASOURCE, "{shown}");
            assert_eq!(text(variable, "/label").to_lowercase(), text(variable, "/name"), "{shown}");
            assert_eq!(
                (&variable["multi"], &variable["includeAll"]),
                (&true.into(), &true.into()),
                "{shown}"
            );
            assert_eq!(text(variable, "/allValue"), ".+", "{shown}");
            // Asked again when the time range changes.
            assert_eq!(variable["refresh"], 2, "{shown}");
        }
    }
}

#[test]
fn every_panel_says_what_it_shows_and_in_which_unit() {
    for (name, dashboard) in dashboards() {
        let mut titles = BTreeSet::new();
        for panel in panels(&dashboard) {
            let title = text(panel, "/title");
            let shown = format!("{name}: {title:?}");
            assert!(!title.is_empty() && titles.insert(title), "{shown} is no title, or is twice");
            assert!(text(panel, "/description").ends_with('.'), "{shown} has no description");
            assert!(UNITS.contains(&text(panel, "/fieldConfig/defaults/unit")), "{shown} has no unit");
            assert_eq!(text(panel, "/datasource/uid"), DATASOURCE, "{shown}");
            let targets = list(panel, "/targets");
            let letters: BTreeSet<_> = targets.iter().map(|target| text(target, "/refId")).collect();
            assert!(!targets.is_empty() && letters.len() == targets.len(), "{shown}: {letters:?}");
            for target in targets {
                let named = panel["type"] == "stat" || !text(target, "/legendFormat").is_empty();
                assert!(named, "{shown} has a line without a name");
            }
        }
        assert!(titles.len() >= 8, "{name} has only {} panels", titles.len());
    }
}

#[test]
fn no_panel_lies_on_another() {
    for (name, dashboard) in dashboards() {
        let mut taken = BTreeSet::new();
        let mut ids = BTreeSet::new();
        for panel in list(&dashboard, "/panels") {
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{name}: an id is twice");
            let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
            assert!(x + w <= 24, "{name}: {} is too far right", panel["title"]);
            for cell in (y..y + h).flat_map(|row| (x..x + w).map(move |column| (column, row))) {
                assert!(taken.insert(cell), "{name}: {} lies on another", panel["title"]);
            }
        }
    }
}

#[test]
fn every_query_asks_for_what_was_chosen_and_for_rates_of_counters() {
    let metric = Regex::new(r"\b(?:up|(?:runbookd|process)_\w+)\b").unwrap();
    let range = Regex::new(r"\[[^\]]*\]").unwrap();
    let chosen = r#"{job=~"$job", instance=~"$instance""#;
    for (name, dashboard) in dashboards() {
        let of_panels = panels(&dashboard).flat_map(|panel| list(panel, "/targets")).map(|it| (true, it));
        let of_marks = list(&dashboard, "/annotations/list").iter().map(|it| (false, it));
        for (of_panel, target) in of_panels.chain(of_marks) {
            let query = text(target, "/expr");
            let shown = format!("{name}: {query}");
            assert_eq!(text(target, "/datasource/uid"), DATASOURCE, "{shown}");
            let mut asked = 0;
            for found in metric.find_iter(query) {
                let (before, after) = (&query[..found.start()], &query[found.end()..]);
                assert!(after.starts_with(chosen), "{shown}: not only of what was chosen");
                let counts = ["_total", "_bucket", "_sum", "_count"];
                let counts = counts.iter().any(|end| found.as_str().ends_with(end));
                let rated = before.ends_with("rate(") || before.ends_with("increase(");
                assert_eq!(counts, rated, "{shown}: {} as it stands", found.as_str());
                asked += 1;
            }
            assert!(asked > 0, "{shown}: asks for nothing");
            assert!(range.find_iter(query).all(|it| it.as_str() == "[$__rate_interval]"), "{shown}");
            let of_runbook = query.contains(r#"runbook=~"$runbook""#);
            assert_eq!(of_runbook, of_panel && name == "runbook", "{shown}: of which runbooks?");
        }
    }
}
