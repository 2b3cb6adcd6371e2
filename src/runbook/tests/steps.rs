//! What steps can say of their order, their attempts, their undo, and the kinds that ask others.

use super::*;
use crate::document::Severity;
use crate::model::{Confinement, Sandbox, StepLimits};

const SECOND: Duration = Duration::from_secs(1);

fn step(id: &str) -> Step {
    full().steps.into_iter().find(|step| step.id.as_str() == id).unwrap()
}

fn after(text: &str) -> Vec<Vec<usize>> {
    let parsed = read(&format!("mode = \"auto\"\ntarget = \"x\"\n{text}"));
    assert_eq!(lines(&parsed.problems), "");
    parsed.runbook.unwrap().steps.into_iter().map(|step| step.after).collect()
}

/// The messages and helps of a runbook whose one step says `body`.
fn told(body: &str) -> Vec<String> {
    let parsed = read(&format!("mode = \"auto\"\ntarget = \"x\"\n[[steps]]\nid = \"a\"\n{body}\n"));
    parsed.problems.iter().map(|problem| format!("{} | {}", problem.message, problem.help)).collect()
}

#[test]
fn a_step_waits_for_the_one_before_it_or_for_those_it_names() {
    let wait = "wait = { for = \"1s\" }\n";
    let step = |id: &str, keys: &str| format!("[[steps]]\nid = \"{id}\"\n{wait}{keys}\n");
    let text = [
        step("a", "after = [\"c\"]"),
        step("b", "after = []"),
        step("x", "finally = true"),
        step("c", ""),
        step("d", "after = [\"c\", \"a\"]"),
        step("y", "finally = true"),
        step("z", "finally = true\nafter = [\"x\", \"d\"]"),
    ];
    // `z` need not wait for `d`: at the end, that is over or will never begin.
    let expected: [&[usize]; 7] = [&[3], &[], &[], &[1], &[0, 3], &[2], &[2]];
    assert_eq!(after(&text.concat()), expected);
    let ids: Vec<usize> = full().steps.iter().map(|step| step.after.first().map_or(99, |it| *it)).collect();
    assert_eq!(ids, [99, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 99, 11, 13, 14, 15, 16, 17, 18, 19, 20, 99, 22]);
    assert_eq!(full().steps[11].after, [0, 9]);
}

#[test]
fn templates_know_what_is_over_by_the_order_and_not_by_the_file() {
    let step = |id: &str, keys: &str| {
        format!("[[steps]]\nid = \"{id}\"\n{keys}\ncommand = {{ program = \"true\", args = [\"@\"] }}\n")
            .replace('@', "{{ steps.a.ok }}{{ steps.b.ok }}{{ steps.c.ok }}{{ steps.f.ok }}")
    };
    let text = [
        step("a", "after = [\"c\"]"),
        step("b", "after = []"),
        step("c", "after = []"),
        step("f", "finally = true"),
    ];
    let parsed = read(&format!("mode = \"auto\"\ntarget = \"x\"\n{}", text.concat()));
    let found: Vec<String> = parsed
        .problems
        .iter()
        .map(|Problem { path, message, .. }| format!("{} {message}", path.split('.').next().unwrap()))
        .collect();
    assert_eq!(
        found,
        [
            "steps[0] the step `a` refers to itself",
            "steps[0] the step `b` may not be over when this runs",
            "steps[0] the step `f` comes later",
            "steps[1] the step `a` may not be over when this runs",
            "steps[1] the step `b` refers to itself",
            "steps[1] the step `c` may not be over when this runs",
            "steps[1] the step `f` comes later",
            "steps[2] the step `a` comes later",
            "steps[2] the step `b` may not be over when this runs",
            "steps[2] the step `c` refers to itself",
            "steps[2] the step `f` comes later",
            "steps[3] the step `f` refers to itself",
        ]
    );
}

#[test]
fn every_circle_is_named_and_nothing_is_concluded_from_it() {
    let step = |id: &str, after: &str| {
        format!(
            "[[steps]]\nid = \"{id}\"\nafter = {after}\nwhen = \"steps.e.ok\"\nwait = {{ for = \"1s\" }}\n"
        )
    };
    let text = [
        step("a", "[\"b\"]"),
        step("b", "[\"a\", \"c\"]"),
        step("c", "[\"d\"]"),
        step("d", "[\"c\"]"),
        step("e", "[\"a\"]"),
    ];
    assert_eq!(
        lines(&read(&format!("mode = \"auto\"\n{}", text.concat())).problems),
        "4:9: these steps wait for each other: a -> b -> a\n\
         14:9: these steps wait for each other: c -> d -> c\n\
         25:15: the step `e` refers to itself\n"
    );
}

#[test]
fn a_long_chain_of_steps_is_read_in_time() {
    let ids: Vec<String> = (0..MAX_STEPS).map(|index| format!("s{index}")).collect();
    let mut text = "mode = \"auto\"\n".to_owned();
    for (index, id) in ids.iter().enumerate() {
        let after: Vec<String> = ids[index + 1..].iter().take(50).map(|id| format!("\"{id}\"")).collect();
        writeln!(text, "[[steps]]\nid = \"{id}\"\nafter = [{}]\nwait = {{ for = \"1s\" }}", after.join(","))
            .unwrap();
    }
    // Whoever follows each way through them by itself is at it for years.
    assert_eq!(read(&text).runbook.unwrap().steps[0].after.len(), 50);
}

#[test]
fn attempts_read_as_written() {
    let rolling = step("rolling");
    assert_eq!((rolling.timeout, rolling.total_timeout), (30 * SECOND, Some(300 * SECOND)));
    assert_eq!(rolling.on_failure, OnFailure::Pause);
    assert_eq!(rolling.breaker.unwrap().source(), "roll:{{ labels.instance }}");
    let retry_on = vec![RetryOn::Timeout, RetryOn::Connect, RetryOn::Exit(75)];
    let (initial, max) = (Duration::from_millis(250), 60 * SECOND);
    assert_eq!(rolling.retry, Retry { attempts: 5, initial, factor: 1.5, max, retry_on });
    let Some(Kind::Command(probe)) = rolling.probe else { panic!("{:?}", rolling.probe) };
    assert_eq!((probe.program.as_str(), shown(&probe.args)), ("is-rolled", vec!["{{ item }}"]));
    let Some(ForEach { items: Items::Rendered(items), concurrency: 4 }) = &rolling.for_each else {
        panic!("{:?}", rolling.for_each)
    };
    assert_eq!(items.source(), "{{ inputs.note }}");

    let beside = step("beside");
    assert!(beside.irreversible && beside.undo.is_none());
    assert_eq!(beside.retry.retry_on, [RetryOn::Status(503, 503), RetryOn::Status(500, 599)]);
    assert_eq!(Retry { retry_on: Vec::new(), attempts: 1, ..beside.retry }, Retry::default());
    let Some(ForEach { items: Items::Listed(items), concurrency: 1 }) = &beside.for_each else {
        panic!("{:?}", beside.for_each)
    };
    assert_eq!(shown(items), ["a", "{{ inputs.unit }}"]);
    assert!(matches!(beside.probe, Some(Kind::Http(http)) if http.method == "HEAD"));
}

#[test]
fn an_undo_reads_as_written_and_a_silence_has_one_of_its_own() {
    let undo = step("rolling").undo.unwrap();
    let Kind::Command(command) = &undo.kind else { panic!("{:?}", undo.kind) };
    assert_eq!((command.program.as_str(), command.args.len()), ("roll-back", 3));
    assert_eq!((undo.effect, undo.timeout), (Effect::Idempotent, 45 * SECOND));
    assert_eq!(undo.retry, Retry { attempts: 2, factor: 3.0, ..Retry::default() });

    let hush = step("hush");
    let undo = hush.undo.unwrap();
    assert!(matches!(undo.kind, Kind::ExpireSilence) && hush.effect == Effect::Idempotent);
    assert_eq!((undo.effect, undo.timeout), (Effect::Idempotent, 10 * SECOND));
    assert_eq!(undo.retry, Retry { attempts: 3, ..Retry::default() });

    let silence = "silence = { matchers = ['a=\"b\"'], for = \"1h\", comment = \"x\" }";
    let undo_of = |keys: &str| {
        let text = format!(
            "mode = \"auto\"\ntarget = \"x\"\n[[steps]]\nid = \"a\"\n{keys}{silence}\n[[steps]]\nid = \"b\"\nwait = {{ for = \"1s\" }}\n"
        );
        read(&text).runbook.unwrap().steps.remove(0).undo.map(|undo| undo.kind.as_str())
    };
    assert_eq!(undo_of(""), Some("expire_silence"));
    assert_eq!(undo_of("undo = { command = { program = \"true\" } }\n"), Some("command"));
    assert_eq!(undo_of("irreversible = true\n"), None, "it is meant to stay");
    assert_eq!(undo_of("finally = true\n"), None, "nothing is undone after the end");
}

#[test]
fn kinds_that_wait_read_as_written_with_the_limits_that_fit() {
    let limits = |id: &str| (step(id).kind.as_str(), step(id).timeout.as_secs(), step(id).effect);
    let runbook = full().timeout.as_secs();
    assert_eq!(limits("until_up"), ("wait", runbook, Effect::ReadOnly));
    assert_eq!(limits("until_healthy"), ("wait", 180, Effect::ReadOnly));
    assert_eq!(limits("told"), ("instruct", runbook, Effect::ReadOnly));
    assert_eq!(limits("ask"), ("approve", 3600, Effect::ReadOnly));
    let Kind::Until(Until { condition: UntilCondition::Promql { query, expect }, every }) =
        step("until_up").kind
    else {
        panic!()
    };
    assert_eq!((query.source(), expect.to_string().as_str(), every), ("up", "== 1", 2 * SECOND));
    let Kind::Until(Until { condition: UntilCondition::Http(http), every }) = step("until_healthy").kind
    else {
        panic!()
    };
    assert_eq!(
        (http.method.as_str(), &http.expect_status[..], every),
        ("GET", &[(200, 299)][..], 5 * SECOND)
    );
    let Kind::Until(Until { condition: UntilCondition::AlertResolved, .. }) = step("until_resolved").kind
    else {
        panic!()
    };
    let Kind::Approve(Approve { message, approval }) = step("ask").kind else { panic!() };
    assert_eq!(message.source(), "Fail {{ inputs.unit }} over?");
    let roles = vec!["operator".to_owned(), "sre".to_owned()];
    assert_eq!(approval, Approval { count: 3, roles, expires: 3600 * SECOND, not_requester: false });
    assert!(matches!(step("told").kind, Kind::Instruct { acknowledge: true, .. }));
}

#[test]
fn kinds_that_ask_others_read_as_written() {
    let Kind::Promql { query, expect, range } = step("errors").kind else { panic!() };
    assert!(query.source().starts_with("rate(errors{instance={{"));
    assert_eq!((expect.to_string().as_str(), range), ("< 0.5", Some(600 * SECOND)));
    let Kind::Runbook { id, inputs } = step("fail-over").kind else { panic!() };
    let inputs: Vec<_> = inputs.iter().map(|(name, value)| (name.as_str(), value.source())).collect();
    assert_eq!(id.as_str(), "fail_over");
    assert_eq!(inputs, [("unit", "{{ inputs.unit }}"), ("why", "{{ steps.ask.status }}")]);
    assert_eq!(full().calls().map(RunbookId::as_str).collect::<Vec<_>>(), ["fail_over"]);
    let Kind::Silence(Silence { matchers, duration, comment }) = step("hush").kind else { panic!() };
    assert_eq!(shown(&matchers), ["team=\"platform\"", "instance={{ labels.instance | promql }}"]);
    assert_eq!((duration, comment.source()), (1800 * SECOND, "{{ execution.id }}"));
    let Kind::Ssh(ssh) = step("remote").kind else { panic!() };
    assert_eq!(
        (ssh.host.source(), ssh.port, ssh.user.source()),
        ("{{ inputs.instance }}", Some(2222), "deploy")
    );
    assert_eq!(
        (ssh.program.as_str(), shown(&ssh.args)),
        ("/usr/local/bin/deploy", vec!["{{ inputs.unit }}"])
    );
    assert_eq!((ssh.key.as_str(), ssh.known_hosts.as_str()), ("deploy-key", "/etc/runbookd/known_hosts"));
    assert_eq!(
        (&ssh.ok_exit[..], ssh.max_output, step("remote").effect),
        (&[0, 3][..], 1 << 20, Effect::AtMostOnce)
    );
    assert_eq!((step("report").on_failure, step("report").is_finally), (OnFailure::Stop, true));
}

#[test]
fn places_of_what_is_outside_are_kept() {
    let parsed = read(FULL);
    let place = |problem: Problem| (problem.line, problem.path);
    let call = parsed.links.calls[0].problem(Severity::Error, "", "");
    let line = FULL.lines().position(|line| line.starts_with("runbook = ")).unwrap() + 1;
    assert_eq!(place(call), (line, "steps[19].runbook.id".to_owned()));
    assert_eq!(parsed.links.calls.len(), 1);
    let breaker = parsed.links.breaker.unwrap().problem(Severity::Error, "", "");
    assert_eq!(breaker.path, "breaker");
}

#[test]
fn help_says_what_to_write_instead() {
    for (body, expected) in [
        (
            "wait = { for = \"1s\" }\nafter = [\"aa\"]",
            "there is no step `aa` | name a step of this runbook by its id",
        ),
        (
            "wait = { for = \"1s\" }\nretry = { attempts = 2 }",
            "a wait is not tried again | remove `retry`; how long it lasts is limited by its time",
        ),
        (
            "http = { url = \"http://a/\" }\nretry = { attempts = 2, retry_on = [\"exit:1\"] }",
            "an http never fails like this | write \"timeout\", \"connect\", \"status:503\" or \"status:5xx\"",
        ),
        (
            "command = { program = \"a\" }\nundo = { approve = { message = \"x\" } }",
            "the undo cannot be an approve | use one of: command, script, http, promql, check, silence, ssh",
        ),
        (
            "instruct = { text = \"{{ item }}\" }",
            "there is no `item` here | it is one of the list of `for_each`, in that step, its probe and its undo",
        ),
        (
            "silence = { matchers = ['a=~\"x{{ labels.y }}\"'], for = \"1h\", comment = \"x\" }",
            "a value becomes part of a regular expression | a value such as `.*` would silence more; prefer = and the filter `promql`",
        ),
    ] {
        assert_eq!(told(body), [expected], "{body}");
    }
    let unused =
        read("mode = \"auto\"\n[approval]\ncount = 2\n[[steps]]\nid = \"a\"\nwait = { for = \"1s\" }\n");
    assert_eq!(lines(&unused.problems), "2:1: no step asks for an approval\n");
    assert!(unused.is_valid());
}

#[test]
fn how_a_process_is_held_reads_as_written_and_by_default_nothing_is_asked_for() {
    let Kind::Command(restart) = step("restart").kind else { panic!() };
    let sandbox = Sandbox { no_network: true, read_only: true, writable: vec!["/var/lib/app".into()] };
    let limits = StepLimits { processes: Some(64), memory: Some(512 << 20), cpu: Some(50), files: Some(256) };
    assert_eq!(*restart.confinement, Confinement { user: Some("deploy".into()), sandbox, limits });
    let Kind::Script(clean) = step("clean").kind else { panic!() };
    let limits = StepLimits { cpu: Some(150), ..StepLimits::default() };
    assert_eq!(*clean.settings.confinement, Confinement { limits, ..Confinement::default() });
    let Kind::Check { question: Question::Command(check), .. } = step("is_up").kind else { panic!() };
    assert_eq!(*check.confinement, Confinement::default());
}
