//! Tests of `document`.

use super::*;
use std::time::Duration;

fn check(text: &str, read: impl FnOnce(&mut Table<'_>), expected: &[&str]) {
    let problems = Problems::new("f.toml", text);
    let mut root = parse(&problems);
    read(&mut root);
    root.finish();
    let found: Vec<String> = problems.into_list().iter().map(ToString::to_string).collect();
    assert_eq!(found, expected);
}

#[test]
fn every_problem_is_found_at_once_with_its_place() {
    check(
        "listen = 5\ntimout = \"5s\"\nwait = \"5 parsecs\"\n",
        |root| {
            root.take("listen").and_then(|value| value.string());
            root.take("timeout");
            root.take("wait").and_then(|value| value.duration(Duration::ZERO..=Duration::from_secs(60)));
        },
        &[
            "f.toml:1:10: expected a text, found integer (help: write it in quotes, \"like this\")",
            "f.toml:2:1: unknown key `timout` (help: did you mean `timeout`?)",
            "f.toml:3:8: \"5 parsecs\" is not a duration: unknown time unit \"parsecs\", supported units: ns, us/µs, ms, sec, min, hours, days, weeks, months, years (and few variations) (help: write a duration such as \"30s\" or \"1h 30m\")",
        ],
    );
}

#[test]
fn columns_count_characters() {
    check(
        "\"ü\" = \"ä\"\n\"näm\" = { x = 1, y = true }\n",
        |root| {
            root.take("ü").and_then(|value| value.boolean());
            let mut table = root.take("näm").and_then(Value::table).unwrap();
            table.take("x").and_then(|value| value.integer(2..=3));
            table.finish();
        },
        &[
            "f.toml:1:7: expected true or false, found string (help: write true or false, without quotes)",
            "f.toml:2:15: 1 is out of range (help: write a number from 2 to 3)",
            "f.toml:2:18: unknown key `y` (help: did you mean `x`?)",
        ],
    );
}

#[test]
fn sizes_have_units() {
    assert_eq!(parse_size("8MiB"), Some(8 << 20));
    assert_eq!(parse_size("10 kB"), Some(10_000));
    assert_eq!(parse_size("12"), Some(12));
    assert_eq!(parse_size("eight"), None);
    assert_eq!(parse_size("99999999999999GiB"), None);
}

#[test]
fn a_value_from_outside_is_read_like_one_in_a_file_and_named_by_its_origin() {
    let problems = Problems::outside("--some-flag");
    let value = |shape, text| Value::outside(&problems, "a.b", shape, text);
    assert_eq!(value(Shape::Boolean, "true").boolean(), Some(true));
    assert_eq!(value(Shape::Integer, "1_000").integer(0..=1000), Some(1000));
    let strings = |text| {
        let list = value(Shape::List, text).strings().unwrap();
        list.into_iter().map(|item| item.value).collect::<Vec<_>>()
    };
    assert_eq!(strings("x, y ,,z"), ["x", "y", "", "z"]);
    assert_eq!(strings(" "), [""; 0]);
    assert_eq!(value(Shape::Integer, "[1]").integer(0..=9), None);
    let list = problems.into_list();
    let shown: Vec<String> = list.iter().map(ToString::to_string).collect();
    let expected =
        "--some-flag: expected a whole number, found string (help: write digits without quotes)".to_owned();
    assert_eq!(shown, [expected]);
    let rendered = Problems::render(&list, "text = \"of some file\"\n");
    assert!(rendered.starts_with("error: --some-flag: expected a whole number"), "{rendered}");
    assert!(!rendered.contains("of some file"), "{rendered}");
}
