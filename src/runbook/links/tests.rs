//! Tests of `runbook::links`.

use super::*;
use crate::document::Problems;

fn id(text: &str) -> RunbookId {
    RunbookId::new(text).unwrap()
}

/// A library from `a: b c` lines.
fn library(text: &str) -> Calls {
    text.lines()
        .filter_map(|line| line.trim().split_once(':'))
        .map(|(caller, callees)| (id(caller), callees.split_whitespace().map(id).collect()))
        .collect()
}

fn messages(text: &str, known: &[&str]) -> Vec<String> {
    let known = known.iter().map(|text| id(text)).collect();
    let place = Problems::outside("x").place(0..0, "");
    let told = |fault: Fault| format!("{}[{}] {}", fault.caller, fault.call, fault.problem(&place).message);
    faults(&library(text), &known).into_iter().map(told).collect()
}

#[test]
fn a_circle_is_an_error_at_each_of_its_calls_and_nowhere_else() {
    let text = "a: x b\nb: c\nc: a\nx:\nouter: a\n";
    assert_eq!(
        messages(text, &[]),
        [
            "a[1] the runbook would call itself: a -> b -> c -> a",
            "b[0] the runbook would call itself: b -> c -> a -> b",
            "c[0] the runbook would call itself: c -> a -> b -> c",
        ]
    );
    assert_eq!(messages("a: a\n", &[]), ["a[0] the runbook would call itself: a -> a"]);
    // `m` lies between two circles and is in none.
    let between = "a: b\nb: a m\nm: c\nc: d\nd: c\n";
    let found = messages(between, &[]);
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(found.iter().all(|line| !line.starts_with("m[") && !line.starts_with("b[1]")), "{found:?}");
}

#[test]
fn what_does_not_exist_is_told_with_the_nearest_that_does() {
    assert_eq!(messages("a: b\n", &[]), ["a[0] there is no runbook `b`"]);
    assert_eq!(messages("a: b\n", &["b"]), [""; 0], "it exists, though nobody knows what it calls");
    let fault = faults(&library("a: restart_wbe\nrestart_web:\n"), &BTreeSet::new()).remove(0);
    let place = Problems::outside("x").place(0..0, "");
    assert_eq!(fault.problem(&place).help, "did you mean \"restart_web\"?");
}

#[test]
fn eight_calls_deep_is_allowed_and_nine_is_not() {
    let chain: String = (0..9).map(|n| format!("r{n}: r{}\n", n + 1)).chain(["r9:\n".to_owned()]).collect();
    assert_eq!(
        messages(&chain, &[]),
        ["r0[0] the runbooks call each other more than 8 deep: \
          r0 -> r1 -> r2 -> r3 -> r4 -> r5 -> r6 -> r7 -> r8 -> r9"]
    );
    assert_eq!(messages(&chain.replace("r0: r1\n", ""), &[]), [""; 0]);
    // The shorter way down does not hide the longer one.
    let detour = format!("top: r1 r8\n{}", chain.replace("r0: r1\n", ""));
    assert_eq!(messages(&detour, &[]).len(), 1);
}

#[test]
fn a_large_library_is_judged_in_time() {
    let text: String = (0..200).map(|n| format!("r{n}: r{} r{}\n", (n + 1) % 200, (n * 7) % 200)).collect();
    let small: String = (0..3000).map(|n| format!("r{n}: leaf\n")).chain(["leaf:\n".to_owned()]).collect();
    let begun = std::time::Instant::now();
    assert_eq!(messages(&small, &[]), [""; 0]);
    assert_eq!(faults(&library(&text), &BTreeSet::new()).len(), 400);
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
}

#[test]
fn a_breaker_profile_must_exist() {
    let problems = Problems::new("r.toml", "breaker = \"agressive\"");
    let links = Links { breaker: Some(problems.place(10..21, "breaker")), ..Links::default() };
    let found = unknown_breaker("agressive", &links, []).unwrap();
    assert_eq!(
        found.to_string(),
        "r.toml:1:11: there is no breaker profile `agressive` (help: did you mean \"aggressive\"?)"
    );
    for known in BREAKER_PROFILES.into_iter().chain(["own"]) {
        assert_eq!(unknown_breaker(known, &links, ["own"]), None);
    }
    assert!(unknown_breaker("own", &links, []).is_some());
    assert_eq!(unknown_breaker("default", &Links::default(), []), None);
}
