//! Orders side by side: which of them counts, and until when.

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn order(scope: Scope, state: SwitchState, expires_at: Option<Timestamp>) -> Order {
    Order { scope, state, by: "ann".to_owned(), reason: "why".to_owned(), at: at(0), expires_at }
}

fn runbook(id: &str) -> RunbookId {
    RunbookId::new(id).unwrap()
}

fn team(value: &str) -> Scope {
    Scope::Matchers(vec![Matcher::parse(&format!("team=\"{value}\"")).unwrap()])
}

fn labels(value: &str) -> Labels {
    Labels::from([("team".to_owned(), value.to_owned())])
}

#[test]
fn the_strictest_order_that_covers_it_counts() {
    let mut switch = KillSwitch::default();
    let (a, b) = (runbook("a"), runbook("b"));
    let state = |switch: &KillSwitch, runbooks: &[&RunbookId], team: &str| {
        switch.strictest(runbooks, Some(&labels(team)), at(1)).map(|order| order.state)
    };
    assert_eq!(state(&switch, &[&a], "x"), None);
    switch.set(order(Scope::Global, SwitchState::Draining, None));
    switch.set(order(Scope::Runbook(a.clone()), SwitchState::Halted, None));
    switch.set(order(team("x"), SwitchState::Aborted, None));
    assert_eq!(state(&switch, &[&b], "y"), Some(SwitchState::Draining));
    assert_eq!(state(&switch, &[&a], "y"), Some(SwitchState::Halted));
    assert_eq!(state(&switch, &[&b, &a], "y"), Some(SwitchState::Halted), "what a called");
    assert_eq!(state(&switch, &[&b], "x"), Some(SwitchState::Aborted));
    assert_eq!(switch.global(at(1)), SwitchState::Draining);
    assert_eq!(
        switch.strictest(&[&b], None, at(1)).map(|order| order.state),
        Some(SwitchState::Draining),
        "labels that are not known match nothing"
    );
}

#[test]
fn an_order_replaces_that_of_its_scope_and_ends_at_its_time() {
    let mut switch = KillSwitch::default();
    switch.set(order(Scope::Global, SwitchState::Aborted, None));
    switch.set(order(Scope::Global, SwitchState::Halted, Some(at(10))));
    assert_eq!(switch.orders().count(), 1);
    assert_eq!((switch.global(at(9)), switch.global(at(10))), (SwitchState::Halted, SwitchState::Running));
    assert_eq!((switch.next_expiry(at(9)), switch.next_expiry(at(10))), (Some(at(10)), None));
    assert!(switch.clear(&Scope::Global).is_some());
    assert_eq!(switch, KillSwitch::default());
}

#[test]
fn matchers_are_one_scope_in_any_order() {
    let parse = |texts: [&str; 2]| Scope::Matchers(texts.map(|text| Matcher::parse(text).unwrap()).to_vec());
    assert_eq!(parse(["a=\"1\"", "b=~\"2\""]), parse(["b=~\"2\"", "a=\"1\""]));
    assert_ne!(parse(["a=\"1\"", "b=~\"2\""]), parse(["a=\"1\"", "b=\"2\""]));
}

#[test]
fn a_board_counts_what_changes_it_and_nothing_else() {
    let board = Board::default();
    board.change(|_| {});
    assert_eq!(board.version(), 0);
    board.change(|switch| switch.set(order(Scope::Global, SwitchState::Halted, None)));
    assert_eq!((board.version(), board.read().global(at(1))), (1, SwitchState::Halted));
}
