//! Tests of `runbook::template`.

use super::*;
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;

fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn context() -> Context {
    Context::builder()
        .labels(&map(&[("alertname", "Down"), ("instance", "web-1:9100"), ("zone", "false")]))
        .annotations(&map(&[("summary", "it is down")]))
        .inputs(&map(&[("unit", "nginx.service")]))
        .steps(json!({"probe": {"ok": false, "status": "failed", "exit_code": 3, "stdout": "a\nb", "json": {"n": [1, 2]}},
            "a-b": {"ok": true, "status": "succeeded", "exit_code": null, "stdout": "", "json": null}}))
        .execution(json!({"id": "x_1", "target": "web-1", "runbook": "x", "version": 3, "started_at": "2026-01-01T00:00:00Z"}))
        .alert(json!({"name": "Down", "status": "firing", "starts_at": "2026-01-01T00:00:00Z", "fingerprint": "0", "generator_url": ""}))
        .build()
}

/// Renders, or says why not: `message` or `message (help)`.
fn render(source: &str) -> String {
    match Template::parse(source).and_then(|template| template.render(&context())) {
        Ok(text) => text,
        Err(TemplateError { message, help, .. }) if help.is_empty() => format!("! {message}"),
        Err(TemplateError { message, help, .. }) => format!("! {message} ({help})"),
    }
}

fn evaluate(source: &str) -> String {
    match Expression::parse(source).and_then(|expression| expression.evaluate(&context())) {
        Ok(answer) => answer.to_string(),
        Err(error) => format!("! {}", error.message),
    }
}

fn check(source: &str, expected: &str) {
    assert_eq!(render(source), expected, "{source}");
}

#[test]
fn values_of_the_context_are_filled_in() {
    check("no tags } {", "no tags } {");
    check("{{ labels.instance }} is {{ steps.probe.status }}\n", "web-1:9100 is failed\n");
    check("{{ steps[\"a-b\"].ok }} {{ steps['a-b']['status'] }}", "true succeeded");
    check("{{ steps.probe.json.n[1] }} {{ execution.version }} {{ alert.name }}", "2 3 Down");
    check(
        "{% for name, value in labels | items %}{{ name }}={{ value }};{% endfor %}",
        "alertname=Down;instance=web-1:9100;zone=false;",
    );
    check("{% if steps.probe.ok %}yes{% elif labels.zone == \"false\" %}zone{% else %}no{% endif %}", "zone");
    check("a {# note #}b", "a b");
    check("{{ labels.team | default(\"none\") }}", "none");
    check("{{ [3, 1, 2] | sort(reverse=true) | join(\",\") }}", "3,2,1");
    check("{% for i in range(3) %}{{ loop.index }}{% endfor %}", "123");
    check("{{ labels.instance.split }}", "! `labels.instance` has no `split` (it has nothing)");
    check("{{ \"a b/ü\" | urlencode }}", "a%20b/%C3%BC");
    check("{{ steps.probe.stdout | lines | length }}", "2");
}

#[test]
fn what_is_undefined_is_named_with_what_there_is() {
    check("{{ labels.instnace }}", "! `labels` has no `instnace` (there are: alertname, instance, zone)");
    check(
        "{{ nope.x }}",
        "! `nope` is undefined (there are: alert, annotations, execution, inputs, labels, steps)",
    );
    check(
        "{{ labels.a | default('') }}{{ labels.nope | upper }}",
        "! `labels` has no `nope` (there are: alertname, instance, zone)",
    );
    check("{{ steps.later.ok }}", "! `steps` has no `later` (there are: a-b, probe)");
    check("{% for n in labels %}{{ n.x }}{% endfor %}", "! `n.x` is undefined");
    check(
        "{{ steps[\"a-b\"].exit_code }}",
        "! `steps[\"a-b\"].exit_code` cannot be evaluated: the value is none",
    );
    assert_eq!(evaluate("not steps.nope.ok"), "! `steps` has no `nope`");
    assert_eq!(evaluate("labels.nope"), "! `labels` has no `nope`");
}

#[test]
fn only_true_and_false_are_answers() {
    assert_eq!(evaluate("not steps.probe.ok"), "true");
    assert_eq!(evaluate("steps.probe.exit_code > 2 and labels.zone in ['false', 'x']"), "true");
    assert_eq!(evaluate("labels.team is defined"), "false");
    assert_eq!(evaluate("labels.zone"), "! the result of `labels.zone` is a string, not true or false");
    assert_eq!(
        evaluate("steps.probe.exit_code"),
        "! the result of `steps.probe.exit_code` is a number, not true or false"
    );
    assert_eq!(evaluate("{{ true }}"), "! an expression has no braces");
    assert_eq!(evaluate("none"), "! the result of `none` is a none, not true or false");
}

#[test]
fn t05_values_are_data_and_are_never_parsed_again() {
    for hostile in
        ["{{ 7*7 }}", "{% for i in range(9) %}x{% endfor %}", "{# x #}", "}} {{ labels }}", "$(id)`id`'\"\\"]
    {
        let labels = map(&[("x", hostile)]);
        let context = Context::builder().labels(&labels).build();
        for source in [
            "{{ labels.x }}",
            "{{ labels.x | string | trim }}",
            "{% for v in [1] %}{{ labels.x }}{% endfor %}",
        ] {
            assert_eq!(Template::parse(source).unwrap().render(&context).unwrap(), hostile);
        }
        let json = render_json(&json!({"a": ["{{ labels.x }}"], "n": 1}), &context).unwrap();
        assert_eq!(json, json!({"a": [hostile], "n": 1}));
    }
}

#[test]
fn promql_quotes_every_value_as_one_string() {
    for (value, expected) in [
        ("web-1", r#""web-1""#),
        ("\"} or vector(1) #", r#""\"} or vector(1) #""#),
        ("a\\", r#""a\\""#),
        ("a\nb\r\t\0\x1b\u{85}ü", r#""a\nb\r\t\u0000\u001b\u0085ü""#),
        ("`x`'y'", r#""`x`'y'""#),
    ] {
        let context = Context::builder().labels(&map(&[("x", value)])).build();
        let quoted = Template::parse("{{ labels.x | promql }}").unwrap().render(&context).unwrap();
        assert_eq!(quoted, expected);
    }
    check("{{ labels.nope | promql }}", "! `labels` has no `nope` (there are: alertname, instance, zone)");
}

#[test]
fn t06_what_cannot_be_bounded_is_refused_when_loaded() {
    for (source, message) in [
        ("{% set x = 1 %}", "the statement `set` is not available in runbooks"),
        ("{% with x = 1 %}{% endwith %}", "the statement `with` is not available in runbooks"),
        ("{% raw %}{{ x }}{% endraw %}", "the statement `raw` is not available in runbooks"),
        ("{% filter upper %}x{% endfilter %}", "the statement `filter` is not available in runbooks"),
        ("{{ \"a\" * 1000000 }}", "`*` is not available in runbooks"),
        ("{{ 2 ** 9 }}", "`**` is not available in runbooks"),
        ("{% for x in [labels] %}{% endfor %}", "a list to loop over holds plain values only"),
        ("{% for x in labels.a ~ labels.a %}{% endfor %}", "`~` cannot stand in the head of a loop"),
        ("{% for x in labels if x %}{% endfor %}", "`if` cannot stand in the head of a loop"),
        ("{% for x in labels %}{{ x ~ x }}{% endfor %}", "`~` is not available within a loop"),
        (
            "{% for x in labels %}{{ 1 if \"a\" in x else 2 }}{% endfor %}",
            "`in` is not available within a loop",
        ),
        ("{{ namespace() }}", "there is no function `namespace`"),
        ("{{ debug() }}", "there is no function `debug`"),
        ("{{ labels.x.items() }}", "there is no method `items`"),
        ("{{ labels[\"x\"]() }}", "this cannot be called"),
        ("{{ {\"a\": 1} }}", "a map cannot be written here"),
        ("{{ labels.x | sh }}", "there is no filter `sh`"),
        ("{{ labels.x | map(\"upper\") }}", "there is no filter `map`"),
        ("{{ labels.x is filter }}", "there is no test `filter`"),
    ] {
        assert_eq!(Template::parse(source).unwrap_err().message, message, "{source}");
    }
    let error = Template::parse(&format!("{{{{ {} }}}}", vec!["labels.x"; 40].join(" ~ "))).unwrap_err();
    assert_eq!(error.message, "more than 32 of `~` and `+`");
    let deep = format!("{}{}", "{% for i in labels %}".repeat(5), "{% endfor %}".repeat(5));
    assert_eq!(Template::parse(&deep).unwrap_err().message, "too many loops within each other");
    let long = format!("{{{{ labels }}}}{}", "x".repeat(MAX_SOURCE));
    assert!(Template::parse(&long).unwrap_err().message.contains("too long"));
    assert!(Template::parse("{% include \"/etc/passwd\" %}").is_err());
    assert!(Template::parse(&format!("{{{{ {}1{} }}}}", "(".repeat(5000), ")".repeat(5000))).is_err());
}

#[test]
fn t06_bombs_end_quickly_and_small() {
    let big = "x".repeat(1 << 20);
    let context = Context::builder().labels(&map(&[("big", &big), ("small", "x")])).build();
    let nested = "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}";
    let close = "{% endfor %}{% endfor %}{% endfor %}";
    for (body, message) in [
        ("", "too much work"),
        ("{{ a }}", "too much work"),
        ("{{ labels.big }}", "longer than 262144 bytes"),
        ("{% if labels.big | split(\"\") | length == 1 %}{% endif %}", "too much work"),
        ("{% if labels.small | replace(\"\", labels.big) == \"\" %}{% endif %}", "too much work"),
        ("{% if labels.big == labels.big | upper %}{% endif %}", "too much work"),
        ("{% if range(99999) | join(labels.big) == \"\" %}{% endif %}", "too much work"),
        ("{% if labels.big is startingwith labels.big %}{% endif %}", "too much work"),
        (
            "{{ \"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\" }}",
            "longer than 262144 bytes",
        ),
    ] {
        let template = Template::parse(&format!("{nested}{body}{close}")).unwrap();
        // Without its bound this would go on for months.
        let error = template.render(&context).unwrap_err();
        assert!(error.message.contains(message), "{body}: {error}");
    }
    let grown = format!("labels.big{} == \"\"", " | replace(\"x\", \"xxxxxxxxxxxxxxxx\")".repeat(20));
    assert!(
        Expression::parse(&grown).unwrap().evaluate(&context).unwrap_err().message.contains("too much work")
    );
}

#[test]
fn depth_within_one_template_cannot_exhaust_the_stack() {
    let context = context();
    for expression in [10_000, 120].into_iter().flat_map(deep) {
        // Refused or answered, but in any case there is an answer.
        if let Ok(parsed) = Expression::parse(&expression) {
            drop(parsed.evaluate(&context));
        }
        if let Ok(parsed) = Template::parse(&format!("{{{{ {expression} }}}}")) {
            drop(parsed.render(&context));
        }
    }
    for n in [2500, 16] {
        for (open, close) in [("{% if true %}", "{% endif %}"), ("{% if true %}{% else %}", "{% endif %}")] {
            let ends = Template::parse(&format!("{}{}", open.repeat(n / 2), close.repeat(n / 2)));
            assert_eq!(ends.is_ok_and(|parsed| parsed.render(&context).is_ok()), n == 16);
        }
    }
    for (n, fine) in [(4000, false), (64, true)] {
        let parsed = Template::parse(&format!("{{% if true %}}{}{{% endif %}}", "{% elif true %}".repeat(n)));
        assert_eq!(parsed.is_ok_and(|parsed| parsed.render(&context).is_ok()), fine);
    }
}

/// Expressions that nest or chain `n` times.
fn deep(n: usize) -> [String; 11] {
    [
        format!("{}true", "not ".repeat(n)),
        format!("{}1 == 1", "-".repeat(n)),
        format!("{}1{}", "[".repeat(n), "]".repeat(n)),
        format!("{}1", "1 if true else ".repeat(n / 4)),
        format!("labels{}", ".a".repeat(n)),
        format!("labels{}", "[0]".repeat(n)),
        format!("1{}", " | abs".repeat(n)),
        format!("1{}", " - 1".repeat(n)),
        format!("true{}", " and true".repeat(n / 2)),
        format!("1{}", " < 2".repeat(n)),
        format!("1{}", " is eq 1".repeat(n / 2)),
    ]
}

#[test]
fn errors_know_their_place() {
    for (source, place) in [
        ("ab {{ labels.x | shell }}", "shell"),
        ("ab {% set x = 1 %}", "set"),
        ("{{ labels.x }} {{ labels.y ** 2 }}", "**"),
        ("ü {{ labels.x.items() }}", "items"),
    ] {
        let error = Template::parse(source).unwrap_err();
        assert_eq!(&source[error.span.unwrap()], place, "{source}");
    }
    assert!(Template::parse("a {{ b").unwrap_err().span.is_some());
}

fn scope() -> Scope {
    Scope {
        inputs: vec!["unit".to_owned()],
        steps: ["probe", "a-b", "now", "later", "beside"].map(str::to_owned).to_vec(),
        turns: Some(vec![Turn::Over, Turn::Over, Turn::Own, Turn::Later, Turn::Unordered]),
        has_item: false,
    }
}

/// What is wrong with the names in `source`: the place, what, and the help.
fn check_names(scope: &Scope, source: &str, expected: &[(&str, &str, &str)]) {
    let found = scope.check(&Template::parse(source).unwrap());
    let found: Vec<_> = found
        .iter()
        .map(|error| (&source[error.span.clone().unwrap()], error.message.as_str(), error.help.as_str()))
        .collect();
    assert_eq!(found, expected, "{source}");
}

#[test]
fn names_are_checked_against_what_is_there() {
    let scope = scope();
    check_names(
        &scope,
        "{{ labels.any }} {{ annotations['x'] }} {{ inputs.unit }} {{ steps.probe.json.deep }}",
        &[],
    );
    check_names(&scope, "{% for label in labels %}{{ label }}{{ loop.index }}{% endfor %}", &[]);
    check_names(&scope, "{{ label.x }}", &[("label", "`label` is not defined", "did you mean `labels`?")]);
    check_names(&scope, "{{ inputs.unti }}", &[("unti", "there is no input `unti`", "did you mean `unit`?")]);
    check_names(
        &scope,
        "{{ steps.prob.ok }}",
        &[("prob", "there is no step `prob`", "did you mean `probe`?")],
    );
    check_names(
        &scope,
        "{{ steps.a_b.ok }}",
        &[("a_b", "there is no step `a_b`", "did you mean [\"a-b\"], in brackets and quotes?")],
    );
    check_names(&scope, "{{ steps['a-b'].okk }}", &[("okk", "a step has no `okk`", "did you mean `ok`?")]);
    check_names(
        &scope,
        "{{ steps.now.ok }}",
        &[("now", "the step `now` refers to itself", "refer to an earlier step")],
    );
    check_names(
        &scope,
        "{{ steps.later.ok }}",
        &[("later", "the step `later` comes later", "refer to an earlier step")],
    );
    check_names(
        &scope,
        "{{ execution.idd }} {{ alert.nam }}",
        &[
            ("idd", "`execution` has no `idd`", "did you mean `id`?"),
            ("nam", "`alert` has no `nam`", "did you mean `name`?"),
        ],
    );
    check_names(
        &scope,
        "{{ steps.beside.ok }}",
        &[("beside", "the step `beside` may not be over when this runs", "add it to `after`")],
    );
    check_names(&scope, "{{ steps.probe.items }} {{ steps.probe.http_status }}", &[]);
    let help = "it is one of the list of `for_each`, in that step, its probe and its undo";
    check_names(&scope, "{{ item }}", &[("item", "there is no `item` here", help)]);
    check_names(&scope, "{% for item in labels %}{{ item }}{% endfor %}", &[]);
    let of_list = Scope { has_item: true, ..scope.clone() };
    check_names(&of_list, "{{ item | upper }}", &[]);
    check_names(&of_list, "{{ itme }}", &[("itme", "`itme` is not defined", "did you mean `item`?")]);
    let before = Scope { turns: None, ..scope };
    check_names(
        &before,
        "{{ execution.id }}",
        &[(
            "execution.id",
            "`execution` is not known before the execution exists",
            "use labels, annotations, inputs or alert",
        )],
    );
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_refused_and_never_panics(
        source in proptest::collection::vec(
            prop_oneof![
                Just("{{".to_owned()), Just("}}".to_owned()), Just("{% ".to_owned()), Just(" %}".to_owned()),
                Just("{#".to_owned()), Just("#}".to_owned()), Just("for x in ".to_owned()), Just("endfor".to_owned()),
                Just("labels".to_owned()), Just(".".to_owned()), Just("[".to_owned()), Just("]".to_owned()),
                Just("'".to_owned()), Just("\\".to_owned()), Just("|".to_owned()), Just("(".to_owned()), "\\PC{0,3}",
            ],
            0..24,
        )
    ) {
        let source = source.concat();
        if let Ok(template) = Template::parse(&source) {
            drop(template.render(&context()));
            drop(Scope::default().check(&template));
        }
        if let Ok(expression) = Expression::parse(&source) {
            drop(expression.evaluate(&context()));
        }
    }

    #[test]
    fn a_quoted_value_reads_back_as_itself(value in "\\PC*|[\\x00-\\x7f]*") {
        let context = Context::builder().labels(&map(&[("x", &value)])).build();
        let quoted = Template::parse("{{ labels.x | promql }}").unwrap().render(&context).unwrap();
        // The escapes used are those that JSON has as well.
        prop_assert_eq!(serde_json::from_str::<String>(&quoted).unwrap(), value);
    }
}
