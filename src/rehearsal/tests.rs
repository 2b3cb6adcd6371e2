//! What test files can say, each played and compared.

use super::*;

const BOOK: &str = r#"
mode = "auto"
alerts = ["Acts"]
target = "{{ labels.host }}"
timeout = "2h"
[guard]
precheck = { promql = "ready", expect = "> 0" }
[inputs.word]
default = "plain"
pattern = '[a-z]+'
[[steps]]
id = "ask"
approve = { message = "May I?", count = 2, roles = ["sre"], expires = "1h" }
[[steps]]
id = "each"
for_each = { items = ["a", "b"] }
http = { method = "PUT", url = "http://127.0.0.1:1/{{ item }}", expect_json = { done = true } }
[steps.undo]
http = { method = "DELETE", url = "http://127.0.0.1:1/{{ item }}" }
[[steps]]
id = "once"
command = { program = "acts" }
probe = { command = { program = "looks" } }
on_failure = "pause"
[[steps]]
id = "until"
wait = { until = { promql = "x", expect = "== 3", every = "30s" } }
timeout = "10m"
[[steps]]
id = "there"
check = { file_exists = "/nowhere", must = true }
[verify]
promql = "up"
expect = "== 1"
within = "10m"
hold = "1m"
"#;

/// Plays one case; its differences, each in one line.
fn check(case: &str) -> Vec<String> {
    let text = format!("[[tests]]\nname = \"it\"\ntrigger = {{ labels = {{ host = \"h\" }} }}\n{case}");
    let suite = read("book.test.toml", "book", &text, &mut |_| Ok(BOOK.to_owned())).unwrap();
    let (outcomes, _) = play(&suite).unwrap();
    let told = outcomes[0].differences.iter();
    told.map(|it| format!("{}: {} but {}", it.what, it.expected, it.got)).collect()
}

fn is_so(case: &str) {
    assert_eq!(check(case), Vec::<String>::new(), "{case}");
}

#[test]
fn what_is_not_said_goes_well() {
    is_so("expect = { status = \"succeeded\", ran = [\"ask\", \"each\", \"once\", \"until\", \"there\"] }");
}

#[test]
fn people_consent_refuse_or_stay_away() {
    is_so("steps.ask = \"rejected\"\nexpect = { status = \"rejected\", ran = [\"ask\"] }");
    is_so("steps.ask = \"nobody\"\nexpect = { status = \"expired\", ran = [\"ask\"] }");
    is_so("steps.ask = { result = \"ok\", takes = \"50m\" }\nexpect = { status = \"succeeded\" }");
    is_so("steps.ask = { result = \"ok\", takes = \"61m\" }\nexpect = { status = \"expired\" }");
}

#[test]
fn items_fail_by_their_place_and_are_undone() {
    is_so(
        "steps.each = { items = [\"ok\", { status = 500 }] }\n\
         expect = { status = \"rolled_back\", failed = [\"each\"], undone = [\"each\"] }",
    );
    // A status that is right does not save a body that is not.
    is_so(
        "steps.each = { stdout = '{\"done\": false}' }\nexpect = { status = \"rolled_back\", undone = [\"each\"] }",
    );
    is_so(
        "steps.each = { items = [\"failed\"], undo = \"failed\" }\nexpect = { status = \"rollback_failed\", undone = [\"each\"] }",
    );
}

#[test]
fn an_unknown_outcome_is_asked_for_by_the_probe() {
    is_so("steps.once = { result = \"unknown\", probe = \"ok\" }\nexpect = { status = \"succeeded\" }");
    is_so(
        "steps.once = { result = \"unknown\", probe = \"failed\" }\nexpect = { status = \"paused\", failed = [\"once\"] }",
    );
}

#[test]
fn somebody_can_be_sent_to_what_is_held() {
    let sent = |word: &str| {
        format!(
            "steps.once = [\"failed\", \"ok\"]\npeople = [{{ after = \"5m\", says = \"{word}\", step = \"once\" }}]\n"
        )
    };
    is_so(&format!("{}expect = {{ status = \"succeeded\", attempts = {{ once = 2 }} }}", sent("retry")));
    is_so(&format!("{}expect = {{ status = \"succeeded\", attempts = {{ once = 1 }} }}", sent("skip")));
    let told = check(
        "steps.once = \"failed\"\npeople = [{ after = \"5m\", says = \"resume\" }]\nexpect = { status = \"paused\" }",
    );
    assert!(told[0].starts_with("play: ") && told[0].contains("somebody cannot resume"), "{told:?}");
}

#[test]
fn prometheus_answers_each_question_by_its_own() {
    is_so("steps.until = [\"no_answer\", { value = 2 }, { value = 3 }]\nexpect = { status = \"succeeded\" }");
    is_so(
        "steps.until = { value = 2 }\nexpect = { status = \"rolled_back\", failed = [\"until\"], undone = [\"each\"] }",
    );
    is_so("verify = [{ value = 1 }, { value = 0 }, { value = 1 }]\nexpect = { status = \"succeeded\" }");
    is_so(
        "verify = \"no_data\"\nexpect = { status = \"rolled_back\", reason = \"not_verified\", undone = [\"each\"] }",
    );
    is_so(
        "precheck = { value = 0 }\nexpect = { status = \"rejected\", reason = \"precheck_failed\", ran = [] }",
    );
}

#[test]
fn an_alert_can_resolve_on_the_way() {
    let case = "trigger.resolved_after = \"1m\"\nsteps.ask = { result = \"ok\", takes = \"10m\" }\nexpect = { status = \"expired\" }";
    let text = case.replace("trigger.resolved_after = \"1m\"\n", "");
    let text = format!(
        "[[tests]]\nname = \"it\"\ntrigger = {{ labels = {{ host = \"h\" }}, resolved_after = \"1m\" }}\n{text}"
    );
    let suite = read("book.test.toml", "book", &text, &mut |_| Ok(BOOK.to_owned())).unwrap();
    let (outcomes, _) = play(&suite).unwrap();
    assert!(outcomes[0].differences.is_empty(), "{:?}", outcomes[0].differences);
}

#[test]
fn a_file_is_there_or_not_as_the_test_says_and_not_as_the_machine_does() {
    is_so(
        "steps.there = \"failed\"\nexpect = { status = \"rolled_back\", failed = [\"there\"], undone = [\"each\"] }",
    );
}

#[test]
fn what_cannot_start_is_refused_by_its_gate() {
    let refused = |trigger: &str, reason: &str| {
        let text = format!("[[tests]]\nname = \"it\"\n{trigger}\nexpect = {{ refused = \"{reason}\" }}");
        let suite = read("book.test.toml", "book", &text, &mut |_| Ok(BOOK.to_owned())).unwrap();
        assert!(play(&suite).unwrap().0[0].differences.is_empty(), "{trigger}");
    };
    refused("trigger = { labels = { host = \"h\" }, inputs = { word = \"A\" } }", "invalid_input");
    refused("", "invalid_target");
    refused("trigger = { labels = { host = \"*\" } }", "invalid_target");
    assert_eq!(
        check("expect = { refused = \"invalid_input\" }"),
        ["refused: invalid_input but it ran: succeeded"]
    );
}

#[test]
fn an_answer_that_its_step_cannot_give_is_an_error_with_its_place() {
    for (line, message) in [
        ("steps.once = { status = 200 }", "unknown key `status`"),
        ("steps.each = { exit = 1 }", "unknown key `exit`"),
        ("steps.ask = \"failed\"", "\"failed\" is not known here"),
        ("steps.until = { takes = \"1s\" }", "unknown key `takes`"),
        ("steps.once = { undo = \"ok\" }", "the step has no undo"),
        ("steps.once = []", "the list is empty"),
        ("steps.once = { exit = 1, result = \"ok\" }", "the attempt ends in several ways"),
        ("unhealthy = { value = 1 }", "the runbook asks no `unhealthy` of Prometheus"),
        ("runbooks.other = { a = \"ok\" }", "no step starts a runbook `other`"),
        ("people = [{ says = \"dance\" }]", "\"dance\" is not known here"),
    ] {
        let text = format!("[[tests]]\nname = \"it\"\n{line}\nexpect = {{ status = \"failed\" }}\n");
        let told = read("book.test.toml", "book", &text, &mut |_| Ok(BOOK.to_owned())).unwrap_err();
        assert!(told.contains(message) && told.contains("book.test.toml:3:"), "{line}: {told}");
    }
}
