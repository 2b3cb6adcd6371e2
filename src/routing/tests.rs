//! Who selects, and what becomes of a selection that is wrong.

use super::*;
use crate::model::{AlertStatus, Fingerprint, Labels, Timestamp};
use crate::runbook;

fn texts(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn alert(labels: &[(&str, &str)], annotations: &[(&str, &str)]) -> Alert {
    let labels = texts(labels);
    Alert {
        status: AlertStatus::Firing,
        fingerprint: Fingerprint::of(&labels),
        labels,
        annotations: texts(annotations),
        starts_at: Timestamp::UNIX_EPOCH,
        ends_at: None,
        generator_url: String::new(),
        external_url: String::new(),
    }
}

fn good(id: &str, head: &str) -> (RunbookId, Listed) {
    let id = RunbookId::new(id).unwrap();
    let text =
        format!("title = \"T\"\nmode = \"auto\"\n{head}\n[[steps]]\nid = \"a\"\nwait = {{ for = \"1s\" }}\n");
    let parsed = runbook::parse(&id, "t.toml", &text);
    let runbook = parsed.runbook.unwrap_or_else(|| panic!("{:?}", parsed.problems));
    let pinned = Pinned { runbook, version: 1, hash: parsed.hash, file_name: "t.toml".to_owned() };
    (id, Listed::Good(Arc::new(pinned)))
}

fn library() -> Library {
    Library::new(
        [
            good("a_named", "alerts = [\"Down\", \"Slow\"]"),
            good("b_named", "alerts = [\"Slow\", \"Full\"]"),
            good("team", "[allow]\nmatchers = ['team=\"web\"', 'severity!=\"info\"']"),
            (RunbookId::new("broken").unwrap(), Listed::Broken),
        ]
        .into(),
    )
}

fn rules(mappings: &[(&str, &[&str], &str)]) -> Rules {
    let mapping = |(name, matchers, runbook): &(&str, &[&str], &str)| Mapping {
        name: (*name).to_owned(),
        matchers: matchers.iter().map(|text| Matcher::parse(text).unwrap()).collect(),
        runbook: RunbookId::new(runbook).unwrap(),
    };
    Rules {
        mappings: mappings.iter().map(mapping).collect(),
        order: vec![Source::Config, Source::Annotation, Source::Runbook],
    }
}

/// The route in a few words.
fn show(route: &Route) -> String {
    match route {
        Route::Selected { pinned, by } => format!("{} by {by}", pinned.runbook.id),
        Route::NotAllowed { pinned, by } => format!("{} not allowed by {by}", pinned.runbook.id),
        Route::Unknown { name, by, broken } => {
            format!("{} {name:?} by {by}", if *broken { "broken" } else { "unknown" })
        }
        Route::Nothing => "nothing".to_owned(),
    }
}

fn check(labels: &[(&str, &str)], annotation: Option<&str>, rules: &Rules, expected: &str) {
    let annotations: Vec<_> = annotation.map(|name| (ANNOTATION, name)).into_iter().collect();
    let route = route(&alert(labels, &annotations), rules, &library());
    assert_eq!(show(&route), expected, "{labels:?} {annotation:?}");
}

#[test]
fn the_first_mapping_of_which_all_matchers_hold_selects() {
    let rules = rules(&[
        ("both", &["alertname=Down", "severity=page"], "team"),
        ("any", &["alertname=~\"Down|Up\""], "b_named"),
        ("late", &["alertname=Down"], "a_named"),
    ]);
    check(&[("alertname", "Down"), ("severity", "page")], None, &rules, "team by the mapping \"both\"");
    check(&[("alertname", "Down")], None, &rules, "b_named by the mapping \"any\"");
    check(&[("alertname", "Full")], None, &rules, "b_named by the runbook's `alerts`");
    check(&[("alertname", "Other")], None, &rules, "nothing");
}

#[test]
fn a_mapping_needs_no_permission_of_the_runbook_and_an_annotation_does() {
    let mapped = rules(&[("m", &["alertname=Other"], "team")]);
    check(&[("alertname", "Other")], None, &mapped, "team by the mapping \"m\"");
    let none = rules(&[]);
    let by = "by the annotation automation_runbook";
    let web = [("alertname", "Other"), ("team", "web")];
    check(&web, Some("team"), &none, &format!("team {by}"));
    let info = [("alertname", "Other"), ("team", "web"), ("severity", "info")];
    check(&info, Some("team"), &none, &format!("team not allowed {by}"));
    check(&[("alertname", "Other")], Some("a_named"), &none, &format!("a_named not allowed {by}"));
    // Whom a runbook names in `alerts`, it allows.
    check(&[("alertname", "Slow")], Some("b_named"), &none, &format!("b_named {by}"));
}

#[test]
fn a_name_of_nothing_ends_the_search() {
    let none = rules(&[]);
    let down = [("alertname", "Down")];
    let by = "by the annotation automation_runbook";
    for name in
        ["", " a_named", "A_named", "a_named.toml", "../a_named", "<error expanding template: x>", "a\0b"]
    {
        check(&down, Some(name), &none, &format!("unknown {name:?} {by}"));
    }
    check(&down, Some("broken"), &none, &format!("broken \"broken\" {by}"));
    check(&down, Some(&"x".repeat(5_000)), &none, &format!("unknown {:?} {by}", "x".repeat(80)));
    let gone = rules(&[("m", &["alertname=Down"], "gone")]);
    check(&down, Some("a_named"), &gone, "unknown \"gone\" by the mapping \"m\"");
}

#[test]
fn of_two_runbooks_that_name_an_alert_the_first_by_id_has_it() {
    let library = library();
    let of = |name: &str| library.for_alert(name).map(|pinned| pinned.runbook.id.to_string());
    assert_eq!(of("Slow").as_deref(), Some("a_named"));
    assert_eq!(of("slow"), None);
    let all: Vec<_> = library.alerts().map(|(alert, id)| format!("{alert}={id}")).collect();
    assert_eq!(all, ["Down=a_named", "Full=b_named", "Slow=a_named"]);
    assert_eq!(library.good().count(), 3);
}
