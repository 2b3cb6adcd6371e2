//! The rules: Prometheus takes them, each alert is seen to fire and seen to be silent, each tells people what it means
//! and where to read on, and each that asks for a runbook asks for one that is there and takes it.

use super::{files, read, root, run, stem};
use crate::docs::headings;
use crate::support::process::program;
use runbookd::model::{Labels, RunbookId};
use runbookd::runbook::{self, InputSource};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

/// One alert of a rule file. `promtool` has judged the grammar; this reads the layout these files keep.
struct Rule {
    file: String,
    alert: String,
    /// Its keys and those of its labels and annotations, which have no name in common.
    fields: BTreeMap<String, String>,
}

impl Rule {
    fn field(&self, name: &str) -> &str {
        self.fields.get(name).unwrap_or_else(|| panic!("{} in {} has no {name}", self.alert, self.file))
    }
}

fn rules() -> Vec<Rule> {
    let of = |path: &std::path::PathBuf| parse(stem(path), &fs::read_to_string(path).unwrap());
    let all: Vec<Rule> = files("rules", "yml").iter().flat_map(of).collect();
    assert!(all.len() > 30, "only {} rules were read", all.len());
    all
}

fn parse(file: &str, text: &str) -> Vec<Rule> {
    let mut found: Vec<Rule> = Vec::new();
    let mut lines = text.lines().filter(|line| !line.trim_start().starts_with('#')).peekable();
    while let Some(line) = lines.next() {
        let indent = |line: &str| line.len() - line.trim_start().len();
        if let Some(alert) = line.trim().strip_prefix("- alert: ") {
            found.push(Rule { file: file.to_owned(), alert: alert.to_owned(), fields: BTreeMap::new() });
            continue;
        }
        let (Some(rule), Some((key, value))) = (found.last_mut(), line.trim().split_once(':')) else {
            continue;
        };
        let value = value.trim();
        let value = if matches!(value, "|" | ">-") {
            let mut block = Vec::new();
            while let Some(next) = lines.next_if(|next| indent(next) > indent(line)) {
                block.push(next.trim());
            }
            block.join(" ")
        } else {
            value.trim_matches('"').to_owned()
        };
        if let Some(labels) = value.strip_prefix("{ ").and_then(|rest| rest.strip_suffix(" }")) {
            let pairs = labels.split(", ").map(|pair| pair.split_once(": ").unwrap());
            rule.fields.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
        } else {
            rule.fields.insert(key.to_owned(), value);
        }
    }
    found
}

#[test]
fn prometheus_accepts_its_config_and_all_rules() {
    let promtool = || Command::new(program("promtool", "prometheus"));
    run(promtool().args(["check", "config", "prometheus.yml"]));
    let said = run(promtool().args(["check", "rules", "--lint=all"]).args(files("rules", "yml")));
    let counted: usize = said
        .lines()
        .filter_map(|line| {
            line.trim().strip_prefix("SUCCESS: ")?.strip_suffix(" rules found")?.parse::<usize>().ok()
        })
        .sum();
    assert_eq!(counted, rules().len(), "promtool found other rules than this test: {said}");
}

#[test]
fn every_alert_fires_when_it_should_and_is_silent_when_it_should() {
    run(Command::new(program("promtool", "prometheus")).args(["test", "rules"]).args(files("tests", "yml")));
    for rule in rules() {
        let cases = read(&format!("alerting/tests/{}.yml", rule.file));
        let lines: Vec<&str> = cases.lines().map(str::trim).collect();
        let fires = [format!("alertname: {}", rule.alert), "exp_alerts:".to_owned()];
        assert!(lines.windows(2).any(|pair| pair == fires), "nothing shows that {} fires", rule.alert);
        let silent = format!(", alertname: {} }}", rule.alert);
        let always = rule.field("expr") == "vector(1)";
        let shown = lines.iter().any(|line| line.starts_with("- { eval_time: ") && line.ends_with(&silent));
        assert!(shown != always, "nothing shows that {} is silent", rule.alert);
    }
}

#[test]
fn every_alert_says_how_bad_it_is_what_it_means_and_where_to_read_on() {
    let document = read("SRE.md");
    let anchors: BTreeSet<String> = headings(&document).collect();
    let mut seen = BTreeSet::new();
    for rule in rules() {
        let name = &rule.alert;
        assert!(name.starts_with(char::is_uppercase) && name.chars().all(char::is_alphanumeric), "{name}");
        assert_eq!(name.starts_with("Runbookd"), rule.file == "runbookd", "{name} in {}", rule.file);
        assert!(seen.insert((rule.file.clone(), name.clone())), "{name} is twice in {}", rule.file);
        let severity = rule.field("severity");
        assert!(["critical", "warning", "info"].contains(&severity), "{name}: {severity}");
        assert!(!rule.field("summary").ends_with('.'), "the summary of {name} is no sentence");
        assert!(rule.field("description").ends_with('.'), "the description of {name} is a sentence");
        let url = rule.field("runbook_url");
        let anchor = url.strip_prefix("https://docs.example.org/runbookd/SRE.md#");
        let anchor = anchor.unwrap_or_else(|| panic!("{name}: {url} does not lead into SRE.md"));
        assert!(anchors.contains(anchor), "{name}: SRE.md has no heading #{anchor}");
        let line = format!("| `{name}` | ");
        assert!(document.lines().any(|it| it.starts_with(&line)), "SRE.md has no line for {name}");
    }
    // What the notifier `alertmanager` posts is no rule's; one name for both could not be told apart.
    assert!(!seen.iter().any(|(_, name)| name == "RunbookdExecutionFailed"));
}

#[test]
fn rules_about_runbookd_ask_for_metrics_that_it_has() {
    // That SRE.md has exactly the metrics that are exposed is the test of the documents.
    let document = read("SRE.md");
    let family = regex::Regex::new(r"\brunbookd_\w+").unwrap();
    let mut asked = 0;
    for rule in rules().iter().filter(|rule| rule.file == "runbookd") {
        for name in family.find_iter(rule.field("expr")) {
            let name = name.as_str().trim_end_matches("_bucket");
            let known = [format!("| `{name}` |"), format!("| `{name}{{")];
            let told =
                document.lines().any(|line| known.iter().any(|start| line.starts_with(start.as_str())));
            assert!(told, "{} asks for {name}, which does not exist", rule.alert);
            asked += 1;
        }
    }
    assert!(asked > 20, "{asked}");
}

/// The labels of the first alert that the tests of the rules see this rule fire with.
fn fired(rule: &Rule) -> Labels {
    let cases = read(&format!("alerting/tests/{}.yml", rule.file));
    let lines: Vec<&str> = cases.lines().map(str::trim).collect();
    let at =
        lines.windows(2).position(|pair| *pair == [&format!("alertname: {}", rule.alert), "exp_alerts:"]);
    let line = lines[at.unwrap_or_else(|| panic!("{} fires nowhere", rule.alert)) + 2];
    let labels = line.strip_prefix("- exp_labels: { ").and_then(|rest| rest.strip_suffix(" }"));
    let pairs = labels.unwrap_or_else(|| panic!("{}: no labels in {line}", rule.alert)).split(", ");
    let pairs = pairs.map(|pair| pair.split_once(": ").unwrap());
    let own = [("alertname", rule.alert.as_str())];
    pairs.chain(own).map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned())).collect()
}

/// What is wrong with the runbook that a rule asks for.
fn complaints(rule: &Rule, id: &str) -> Vec<String> {
    let Ok(text) = fs::read_to_string(root().join("runbooks").join(format!("{id}.toml"))) else {
        return vec![format!("{}: there is no runbooks/{id}.toml", rule.alert)];
    };
    let parsed = runbook::parse(&RunbookId::new(id).unwrap(), "runbook", &text);
    let runbook = parsed.runbook.unwrap_or_else(|| panic!("{id}: {:#?}", parsed.problems));
    let labels = fired(rule);
    let listed = runbook.alerts.contains(&rule.alert);
    let allowed = runbook.allow.iter().any(|matchers| matchers.iter().all(|it| it.matches(&labels)));
    let refused = (!listed && !allowed).then(|| format!("{id} does not take {}", rule.alert));
    let wanted = runbook.inputs.iter().filter(|input| input.required && input.default.is_none());
    let missing = wanted.filter_map(|input| match &input.from {
        Some(InputSource::Label(label)) if labels.contains_key(label) => None,
        from => Some(format!("{}: {id} wants {} from {from:?}: {labels:?}", rule.alert, input.name)),
    });
    refused.into_iter().chain(missing).collect()
}

#[test]
fn every_automation_runbook_annotation_names_an_existing_runbook_that_takes_the_alert() {
    let mut named = BTreeSet::new();
    let mut wrong = Vec::new();
    for rule in rules() {
        if let Some(id) = rule.fields.get("automation_runbook") {
            named.insert(id.clone());
            wrong.extend(complaints(&rule, id));
        } else {
            assert_eq!(rule.file, "runbookd", "{} starts no runbook", rule.alert);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(named.len() >= 12, "{named:?}");
}
