//! Tests of `runbook`.

use super::*;
use crate::document::Problem;
use crate::model::{Effect, Labels, RunbookId};
use proptest::prelude::*;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

mod steps;

const FULL: &str = include_str!("../../tests/corpus/runbook/full.toml");
const SMALL: &str = include_str!("../../tests/corpus/runbook/small.toml");

fn read(text: &str) -> Parsed {
    parse(&RunbookId::new("service_down").unwrap(), "service_down.toml", text)
}

fn full() -> Runbook {
    let parsed = read(FULL);
    let problems: Vec<String> = parsed.problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems, [""; 0]);
    parsed.runbook.unwrap()
}

fn shown(templates: &[Template]) -> Vec<&str> {
    templates.iter().map(Template::source).collect()
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().fold(String::new(), |mut out, Problem { line, column, message, .. }| {
        writeln!(out, "{line}:{column}: {message}").unwrap();
        out
    })
}

#[test]
fn every_broken_file_of_the_corpus_is_refused_at_its_place() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/broken-runbook");
    let files: BTreeSet<PathBuf> =
        std::fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    let of = |extension: &'static str| {
        files.iter().filter(move |file| file.extension().is_some_and(|it| it == extension))
    };
    assert!(of("toml").count() >= 30);
    let mut wrong = String::new();
    for expectation in of("expected") {
        assert!(files.contains(&expectation.with_extension("toml")), "{expectation:?} has no runbook");
    }
    for file in of("toml") {
        let parsed = read(&std::fs::read_to_string(file).unwrap());
        let found = lines(&parsed.problems);
        let expected = std::fs::read_to_string(file.with_extension("expected")).unwrap_or_default();
        if expected.is_empty() || found != expected {
            writeln!(wrong, "{}\nexpected\n{expected}found\n{found}", file.display()).unwrap();
        }
        let only_warned = file.to_string_lossy().contains("mode_not_set");
        assert_eq!(parsed.is_valid(), only_warned, "{file:?}");
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn the_head_of_a_full_runbook_reads_as_written() {
    let runbook = full();
    assert_eq!(runbook.id.as_str(), "service_down");
    assert_eq!(runbook.title, "Service unavailable");
    assert_eq!(runbook.description, "Restart the unit.\n\nSee the *wiki*.");
    assert_eq!(runbook.mode, Mode::Auto);
    assert_eq!(runbook.alerts, ["ServiceDown", "ServiceFlapping"]);
    assert_eq!(runbook.target.as_ref().unwrap().source(), "{{ labels.instance }}");
    assert_eq!(runbook.timeout, Duration::from_secs(20 * 60));
    assert_eq!((runbook.on_resolved, runbook.breaker.as_str()), (OnResolved::Rollback, "own"));
    let matchers: Vec<String> = runbook.allow.iter().flatten().map(ToString::to_string).collect();
    assert_eq!(matchers, [r#"team="platform""#, r#"severity=~"page|critical""#]);
    let claims: Vec<_> =
        runbook.required_claims.iter().map(|(name, values)| (name.as_str(), values.join("+"))).collect();
    assert_eq!(claims, [("groups", "ops+platform".to_owned()), ("roles", "sre+admin".to_owned())]);
    assert!(runbook.is_changing());
    assert_eq!(runbook.step_index(&runbook.steps[3].id), Some(3));

    let names: Vec<_> = runbook.inputs.iter().map(|input| input.name.as_str()).collect();
    assert_eq!(names, ["unit", "instance", "region", "note"], "in the order of the file");
    let unit = &runbook.inputs[0];
    assert_eq!(unit.from, Some(InputSource::Label("unit".to_owned())));
    assert_eq!(unit.default.as_deref(), Some("nginx.service"));
    assert!(unit.required && unit.pattern.as_ref().unwrap().is_match("a.service"));
    assert!(!unit.pattern.as_ref().unwrap().is_match("a.service; rm"));
    assert_eq!(runbook.inputs[1].from, Some(InputSource::Annotation("instance".to_owned())));
    assert_eq!(runbook.inputs[2].from, Some(InputSource::Env("REGION".to_owned())));
    assert!(runbook.inputs[3].from.is_none() && !runbook.inputs[3].required);

    let verify = runbook.verify.unwrap();
    assert_eq!((verify.within, verify.hold), (Duration::from_secs(600), Duration::from_secs(30)));
    let Condition::Promql { query, expect } = verify.condition else { panic!("{:?}", verify.condition) };
    assert_eq!(
        (query.source(), expect.to_string().as_str()),
        ("up{instance={{ inputs.instance | promql }}}", "== 1")
    );
}

#[test]
fn the_guard_of_a_full_runbook_reads_as_written() {
    use crate::guard::{Limit, Overrides};
    let guard = full().guard;
    let limit = |count, minutes: u64| Limit { count, within: Duration::from_secs(minutes * 60) };
    let expected = Overrides {
        cooldown: Some(None),
        max_runs: Some(vec![limit(3, 60), limit(7, 24 * 60)]),
        max_concurrent: Some(Some(2)),
        max_targets: Some(Some(limit(20, 30))),
        flapping: Some(None),
        confirm: Some(false),
    };
    assert_eq!(guard.settings, expected);
    let unhealthy = guard.max_unhealthy.unwrap();
    assert_eq!(unhealthy.query.source(), "sum(up{job=\"web\"} == bool 0)");
    assert_eq!(unhealthy.limit, Unhealthy::Percent(30.0));
    assert_eq!(unhealthy.of.unwrap().source(), "count(up{job=\"web\"})");
    let precheck = guard.precheck.unwrap();
    assert_eq!(precheck.query.source(), "up{instance={{ inputs.instance | promql }}}");
    assert_eq!(precheck.expect.to_string(), "== 0");
    assert_eq!(guard.lock.unwrap().source(), "{{ labels.cluster }}/{{ inputs.unit }}");
    let plain = "mode = \"shadow\"\n[guard]\nlock = \"x\"\nmax_unhealthy = { promql = \"up\", limit = 2.5 }\n\
                 [[steps]]\nid = \"a\"\nwait = { for = \"1s\" }\n";
    let parsed = read(plain);
    assert_eq!(lines(&parsed.problems), "2:1: no step is changing, so nothing holds the lock\n");
    let guard = parsed.runbook.unwrap().guard;
    assert_eq!(guard.max_unhealthy.unwrap().limit, Unhealthy::Count(2.5));
    assert_eq!(guard.settings, Overrides::default());
}

#[test]
fn the_steps_of_a_full_runbook_share_their_keys() {
    let found: Vec<_> = full()
        .steps
        .iter()
        .take(11)
        .map(|step| {
            let when = step.when.as_ref().map_or("", Expression::source).to_owned();
            (
                step.id.to_string(),
                step.title.clone(),
                step.kind.as_str(),
                step.effect,
                step.timeout.as_secs(),
                step.on_failure,
                when,
            )
        })
        .collect();
    let row = |id: &str, kind, effect, timeout, on_failure| {
        (id.to_owned(), id.to_owned(), kind, effect, timeout, on_failure, String::new())
    };
    use {Effect::*, OnFailure::*};
    let mut expected = [
        row("probe", "http", ReadOnly, 5, Continue),
        row("tell-chat", "http", AtMostOnce, 60, Continue),
        row("put", "http", Idempotent, 60, Rollback),
        row("restart", "command", Idempotent, 60, Stop),
        row("clean", "script", AtMostOnce, 60, Rollback),
        row("settle", "wait", ReadOnly, 150, Rollback),
        row("is_up", "check", ReadOnly, 60, Rollback),
        row("has_pid", "check", ReadOnly, 60, Rollback),
        row("was_needed", "check", ReadOnly, 60, Rollback),
        row("look", "command", ReadOnly, 60, Rollback),
        row("explain", "instruct", ReadOnly, 60, Rollback),
    ];
    expected[0].1 = "Is it really down?".to_owned();
    expected[1].6 = "not steps.probe.ok and alert.status == 'firing'".to_owned();
    assert_eq!(found, expected);
}

#[test]
fn requests_read_as_written() {
    let requests: Vec<Http> = full()
        .steps
        .into_iter()
        .take(11)
        .filter_map(|step| match step.kind {
            Kind::Http(http) => Some(http),
            _ => None,
        })
        .collect();
    let [get, post, put] = &requests[..] else { panic!("{requests:?}") };
    assert_eq!((get.method.as_str(), get.templated_authority, get.follow_redirects), ("GET", true, true));
    assert_eq!(get.url.source(), "http://{{ inputs.instance }}/health");
    let headers: Vec<_> = get.headers.iter().map(|(name, value)| (name.as_str(), value.source())).collect();
    assert_eq!(headers, [("Accept", "application/json"), ("X-Unit", "{{ inputs.unit }}")]);
    assert_eq!(get.expect_status, [(200, 299), (304, 304), (400, 404), (503, 503)]);
    assert_eq!(get.expect_json, Some(json!({"status": "ok", "checks": [1, 2.5, true]})));
    assert!(get.body.is_none());
    assert_eq!(
        (post.method.as_str(), post.templated_authority, post.follow_redirects),
        ("POST", false, false)
    );
    assert_eq!(post.expect_status, [(200, 299)]);
    let Some(Body::Json(body)) = &post.body else { panic!("{:?}", post.body) };
    let expected = json!({"text": "{{ execution.id }} acts on {{ execution.target }}", "tags": ["a", "{{ inputs.unit }}"], "n": 3});
    assert_eq!(*body, expected);
    let Some(Body::Text(body)) = &put.body else { panic!("{:?}", put.body) };
    assert_eq!((put.method.as_str(), body.source()), ("PUT", "state={{ steps['tell-chat'].status }}"));
}

#[test]
fn programs_scripts_and_questions_read_as_written() {
    let kinds: Vec<Kind> = full().steps.into_iter().take(11).skip(3).map(|step| step.kind).collect();
    let [
        Kind::Command(restart),
        Kind::Script(clean),
        Kind::Wait { duration },
        Kind::Check { question: Question::Command(is_active), must: true },
        Kind::Check { question: Question::FileExists(pid), must: false },
        Kind::Check { question: Question::Expr(needed), must: false },
        Kind::Command(uptime),
        Kind::Instruct { text, acknowledge: false },
    ] = &kinds[..]
    else {
        panic!("{kinds:?}")
    };
    let env = |command: &Command| {
        command.env.iter().map(|(name, value)| format!("{name}={}", value.source())).collect::<Vec<_>>()
    };
    let source = |template: &Option<Template>| template.as_ref().unwrap().source().to_owned();
    assert_eq!(restart.program, "/usr/bin/systemctl");
    assert_eq!(shown(&restart.args), ["restart", "{{ inputs.unit }}"]);
    assert_eq!(env(restart), ["MODE=hard", "UNIT={{ inputs.unit }}"]);
    assert_eq!(source(&restart.cwd), "/var/lib");
    assert_eq!(source(&restart.stdin), "{{ steps.probe.stdout }}\n");
    assert_eq!((&restart.ok_exit[..], restart.max_output), (&[0, 75][..], 64 << 10));

    assert_eq!(clean.shell, ["/bin/bash", "-eu"]);
    assert_eq!(clean.text, "for f in /tmp/\"$UNIT\".*; do rm -- \"$f\"; done\n");
    assert_eq!(env(&clean.settings), ["UNIT={{ inputs.unit }}"]);
    assert_eq!((clean.settings.program.as_str(), clean.settings.args.len()), ("", 0));
    assert_eq!(
        (source(&clean.settings.cwd), source(&clean.settings.stdin)),
        ("/tmp".to_owned(), "yes".to_owned())
    );
    assert_eq!((&clean.settings.ok_exit[..], clean.settings.max_output), (&[0, 3][..], 4096));

    assert_eq!(*duration, Duration::from_secs(90));
    assert_eq!(
        (is_active.program.as_str(), shown(&is_active.args)),
        ("systemctl", vec!["is-active", "{{ inputs.unit }}"])
    );
    assert_eq!(pid.source(), "/run/{{ inputs.unit }}.pid");
    assert_eq!(needed.source(), "steps.restart.exit_code == 0");
    assert_eq!((uptime.program.as_str(), uptime.args.len()), ("uptime", 0));
    assert_eq!((&uptime.ok_exit[..], uptime.max_output), (&[0][..], 10 << 20));
    assert!(uptime.env.is_empty() && uptime.cwd.is_none() && uptime.stdin.is_none());
    let context = Context::builder()
        .labels(&Labels::from([("a".to_owned(), "1".to_owned())]))
        .inputs(&BTreeMap::from([("unit".to_owned(), "x".to_owned())]))
        .build();
    assert_eq!(text.render(&context).unwrap(), "Restarted **x**.\n- a: 1\n");
}

#[test]
fn a_small_runbook_gets_the_defaults() {
    let parsed = read(SMALL);
    assert_eq!(
        lines(&parsed.problems),
        "1:1: the mode is not set, so the runbook is only shown, never run\n"
    );
    assert_eq!(parsed.hash, "ba3ac96a2ad4f63db8791e4e3180c927f800b653fd8eb42979d674f2b201f012");
    let runbook = parsed.runbook.unwrap();
    assert_eq!((runbook.title.as_str(), runbook.description.as_str()), ("service_down", ""));
    assert_eq!((runbook.mode, runbook.on_resolved), (Mode::Shadow, OnResolved::Finish));
    assert_eq!(runbook.breaker, "default");
    let step = &runbook.steps[0];
    assert_eq!((&step.retry, step.on_failure), (&Retry::default(), OnFailure::Rollback));
    assert!(step.after.is_empty() && step.total_timeout.is_none() && !step.irreversible && !step.is_finally);
    assert!(step.probe.is_none() && step.breaker.is_none() && step.for_each.is_none() && step.undo.is_none());
    assert_eq!(runbook.timeout, Duration::from_secs(15 * 60));
    assert!(runbook.target.is_none() && runbook.allow.is_none() && runbook.verify.is_none());
    assert!(runbook.alerts.is_empty() && runbook.inputs.is_empty() && runbook.required_claims.is_empty());
    assert!(!runbook.is_changing());

    let text = format!(
        "{SMALL}\n[[steps]]\nid = \"b\"\nscript = {{ text = \"true\", shell = \"/bin/dash -e\" }}\n[verify]\nalert_resolved = true\n"
    );
    let runbook = read(&format!("mode = \"auto\"\ntarget = \"x\"\n{text}")).runbook.unwrap();
    let verify = runbook.verify.unwrap();
    assert_eq!((verify.within, verify.hold), (Duration::from_secs(300), Duration::ZERO));
    assert!(matches!(verify.condition, Condition::AlertResolved));
    let Kind::Script(script) = &runbook.steps[1].kind else { panic!() };
    assert_eq!(script.shell, ["/bin/dash", "-e"]);
}

#[test]
fn all_problems_of_a_file_are_found_at_once() {
    let text = "mode = \"atuo\"\n[[steps]]\nid = \"a\"\nwhen = \"labl.x\"\ntimeout = 5\ncommand = { program = \"./x\", env = { ENV = \"{{ y }}\" } }\nretry = 3\n[verify]\npromql = \"{{\"\n";
    let expected = "1:8: \"atuo\" is not known here\n\
        4:9: `labl` is not defined\n\
        5:11: expected a duration, found integer\n\
        6:23: the program is a relative path\n\
        6:38: the variable \"ENV\" cannot be set: it can make the child run other code than its program\n\
        6:48: `y` is not defined\n\
        7:9: expected a table, found integer\n\
        8:1: the key `expect` is missing\n\
        9:11: a tag that does not end\n";
    assert_eq!(lines(&read(text).problems), expected);
}

#[test]
fn only_a_literal_authority_is_not_templated() {
    for (url, templated) in [
        ("http://a/{{ labels.x }}", Some(false)),
        ("http://a:80?{{ labels.x }}", Some(false)),
        ("http://a{{ labels.x }}/", Some(true)),
        ("http://a:{{ labels.x }}/", Some(true)),
        ("{{ labels.x }}/health", Some(true)),
        ("https://{% if labels.x %}a{% else %}b{% endif %}/", Some(true)),
        ("http://[::1]:9100/", Some(false)),
        ("http://a@b/", None),
        ("http://a:b@{{ labels.x }}/", None),
        ("http://a:99999/", None),
        ("http://a\\b/", None),
        ("file:///etc/passwd", None),
        ("HTTP//a", None),
    ] {
        let text = format!("mode = \"auto\"\n[[steps]]\nid = \"a\"\nhttp = {{ url = '{url}' }}\n");
        let found = read(&text).runbook.map(|runbook| match &runbook.steps[0].kind {
            Kind::Http(http) => http.templated_authority,
            kind => panic!("{kind:?}"),
        });
        assert_eq!(found, templated, "{url}");
    }
}

#[test]
fn a_huge_file_is_refused_unread() {
    let text = format!("{SMALL}#{}", "x".repeat(MAX_FILE));
    assert_eq!(lines(&read(&text).problems), format!("1:1: a runbook of {} bytes is too long\n", text.len()));
}

#[test]
fn depth_of_a_file_cannot_exhaust_the_stack() {
    let n = 50_000;
    for text in [
        format!("steps = {}1{}", "[".repeat(n), "]".repeat(n)),
        format!("steps = {}1{}", "{ a = ".repeat(n), "}".repeat(n)),
        format!("a{} = 1", ".a".repeat(n)),
        format!("[a{}]\nb = 1", ".a".repeat(n)),
        format!("[[steps]]\nid = 'a'\n[steps.http]\nurl = 'http://a/'\njson.a{} = 1", ".a".repeat(n)),
        format!("[[steps]]\nid = 'a'\nwhen = '{}x'\nwait = {{ for = '1s' }}", "not ".repeat(n)),
        format!("[inputs.a]\npattern = '{}{}'\n", "(".repeat(n), ")".repeat(n)),
    ] {
        assert!(!read(&text).is_valid(), "{}", &text[..60]);
    }
}

fn edited() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![
        Just(String::new()),
        "[\\[\\]{}\"'=.|%#\\\\\n ]{1,3}",
        Just("{{ steps.probe.ok }}".to_owned()),
        Just("\u{0}".to_owned()),
        "\\PC{0,4}",
    ];
    let edit = (any::<prop::sample::Index>(), 0..40_usize, pieces, any::<bool>());
    proptest::collection::vec(edit, 1..6).prop_map(|edits| {
        let mut text = FULL.to_owned();
        for (at, length, piece, double) in edits {
            let start = text.floor_char_boundary(at.index(text.len() + 1));
            let end = text.floor_char_boundary((start + length).min(text.len()));
            let old = text[start..end].to_owned();
            text.replace_range(start..end, &if double { format!("{old}{piece}{old}") } else { piece });
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn any_edit_of_a_runbook_is_read_or_refused_and_never_panics(text in edited()) {
        let parsed = read(&text);
        let errors = parsed.problems.iter().any(|problem| problem.severity == crate::document::Severity::Error);
        prop_assert_eq!(parsed.is_valid(), !errors);
        for problem in &parsed.problems {
            prop_assert!(problem.span.start <= text.len() && problem.line >= 1 && problem.column >= 1);
        }
        drop(crate::document::Problems::render(&parsed.problems, &text));
    }
}
