//! Tests of `runbook::inputs`.

use super::*;
use crate::model::RunbookId;
use crate::runbook::parse;

const RUNBOOK: &str = r#"
mode = "auto"
target = "{{ labels.instance }}"
[inputs.unit]
from = "labels.unit"
default = "nginx"
pattern = '[a-z]+'
[inputs.summary]
from = "annotations.summary"
[inputs.region]
from = "env.REGION"
required = true
[[steps]]
id = "look"
command = { program = "uptime" }
"#;

fn runbook(text: &str) -> Runbook {
    parse(&RunbookId::new("x").unwrap(), "x.toml", text).runbook.unwrap()
}

fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// `given` values with the unit's label, the summary and the region; sorted `name=value` or problems.
fn check(label: &str, summary: &str, region: &str, given: &[(&str, &str)], expected: &[&str]) {
    let (labels, annotations) = (map(&[("unit", label)]), map(&[("summary", summary)]));
    let found = resolve(&runbook(RUNBOOK), &labels, &annotations, &map(&[("REGION", region)]), &map(given));
    let found: Vec<String> = match found {
        Ok(values) => values.into_iter().map(|(name, value)| format!("{name}={value}")).collect(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    };
    assert_eq!(found, expected);
}

#[test]
fn the_callers_value_wins_then_the_alerts_then_the_default() {
    check("web", "down", "eu", &[("unit", "db")], &["region=eu", "summary=down", "unit=db"]);
    check("web", "down", "eu", &[], &["region=eu", "summary=down", "unit=web"]);
    check("", "down", "eu", &[], &["region=eu", "summary=down", "unit=nginx"]);
    check("", "", "eu", &[], &["region=eu", "unit=nginx"]);
}

#[test]
fn a_value_outside_its_pattern_refuses_and_is_not_replaced_by_the_default() {
    for bad in ["WEB", "web; rm -rf /", "web\n", "-rf", "{{ 7*7 }}"] {
        check(bad, "", "eu", &[], &[&format!("input `unit`: {bad:?} does not match its pattern [a-z]+")]);
        check(
            "web",
            "",
            "eu",
            &[("unit", bad)],
            &[&format!("input `unit`: {bad:?} does not match its pattern [a-z]+")],
        );
    }
    check("web", "", "eu", &[("unit", "")], &["input `unit`: \"\" does not match its pattern [a-z]+"]);
}

#[test]
fn a_label_that_prometheus_could_not_make_refuses() {
    let broken = "<error expanding template __alert_x: undefined>";
    check(
        "web",
        broken,
        "eu",
        &[],
        &[&format!("input `summary`: {broken:?} is a template that failed in Prometheus")],
    );
    check("web", "a\0b", "eu", &[], &["input `summary`: the value contains a NUL character"]);
}

#[test]
fn missing_and_unknown_inputs_are_all_named() {
    check(
        "WEB",
        "",
        "",
        &[("unti", "x")],
        &[
            "input `unit`: \"WEB\" does not match its pattern [a-z]+",
            "input `region`: it is required, and no variable `REGION` was given",
            "input `unti`: the runbook has no such input; it has: unit, summary, region",
        ],
    );
}

fn check_target(instance: &str, expected: Result<&str, &str>) {
    let context = Context::builder().labels(&map(&[("instance", instance)])).build();
    let found = target(&runbook(RUNBOOK), &context).map(|target| target.unwrap().to_string());
    assert_eq!(found.as_deref().map_err(|why| why.split(" (").next().unwrap()), expected);
}

#[test]
fn a_lock_is_what_the_runbook_says_or_its_target_and_held_to_the_same_rules() {
    const STEP: &str = "target = \"{{ labels.instance }}\"\n[[steps]]\nid = \"a\"\n\
                        command = { program = \"reboot\" }\n";
    let runbook_with = |guard: &str| runbook(&format!("{STEP}{guard}"));
    let context =
        Context::builder().labels(&map(&[("instance", "web-1"), ("rack", "r7"), ("any", "*")])).build();
    let lock_of = |guard: &str| {
        let runbook = runbook_with(guard);
        let target = target(&runbook, &context).unwrap();
        lock(&runbook, target.as_ref(), &context)
    };
    assert_eq!(lock_of(""), Ok(Some("web-1".to_owned())));
    assert_eq!(lock_of("[guard]\nlock = \"rack {{ labels.rack }}\"\n"), Ok(Some("rack r7".to_owned())));
    assert_eq!(
        lock_of("[guard]\nlock = \"{{ labels.any }}\"\n"),
        Err(
            "the lock: \"*\" is not a target (1 to 1024 bytes, not blank, without * ? or control characters)"
                .to_owned()
        )
    );
    let missing = lock_of("[guard]\nlock = \"{{ labels.cell }}\"\n").unwrap_err();
    assert!(missing.starts_with("the lock cannot be rendered: "), "{missing}");
    let looks = STEP.replace("command", "effect = \"read_only\"\ncommand");
    assert_eq!(lock(&runbook(&looks), None, &context), Ok(None));
}

#[test]
fn a_target_is_one_thing() {
    check_target("10.0.0.1:9100", Ok("10.0.0.1:9100"));
    check_target("", Err("\"\" is not a target"));
    check_target(" ", Err("\" \" is not a target"));
    check_target("web-*", Err("\"web-*\" is not a target"));
    check_target(
        "<error expanding template x>",
        Err("\"<error expanding template x>\" is a template that failed in Prometheus"),
    );
    let context = Context::builder().labels(&map(&[("job", "node")])).build();
    let error = target(&runbook(RUNBOOK), &context).unwrap_err();
    assert_eq!(error, "the target cannot be rendered: `labels` has no `instance` (there are: job)");
    let without = "[[steps]]\nid = \"look\"\neffect = \"read_only\"\ncommand = { program = \"uptime\" }\n";
    assert_eq!(target(&runbook(without), &context), Ok(None));
}
