//! What counts while orders are on their way into a store that may fail, held against the store itself.

use super::*;
use crate::model::RunbookId;
use proptest::prelude::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn order(scope: Scope, state: SwitchState, expires_at: Option<Timestamp>) -> Order {
    Order { scope, state, by: "ann".to_owned(), reason: "why".to_owned(), at: at(0), expires_at }
}

fn runbook(number: usize) -> Scope {
    Scope::Runbook(RunbookId::new(&format!("r{number}")).unwrap())
}

fn save(orders: &mut Orders, order: &Order) {
    match orders.take(order, at(0)) {
        Taken::Counts(ticket) | Taken::Waits(ticket) => orders.saved(ticket, order),
        other => panic!("{other:?}"),
    }
}

#[test]
fn everything_can_be_halted_however_many_orders_stand_and_only_those_that_stand_count() {
    let mut orders = Orders::default();
    for number in 0..MAX_ORDERS {
        save(&mut orders, &order(runbook(number), SwitchState::Draining, Some(at(10))));
    }
    let one_more = order(runbook(MAX_ORDERS), SwitchState::Halted, None);
    assert_eq!(orders.take(&one_more, at(9)), Taken::TooMany);
    let tighter = order(runbook(0), SwitchState::Halted, Some(at(10)));
    assert!(matches!(orders.take(&tighter, at(9)), Taken::Counts(_)));
    let all = order(Scope::Global, SwitchState::Halted, None);
    assert!(matches!(orders.take(&all, at(9)), Taken::Counts(_)));
    assert_eq!(orders.switch().global(at(9)), SwitchState::Halted);
    assert!(matches!(orders.take(&one_more, at(10)), Taken::Counts(_)), "the others have ended");
    let ended = orders.ended(at(10));
    assert_eq!(ended.len(), MAX_ORDERS - 1, "all but the one that is being replaced");
    orders.forgotten(&ended);
    assert_eq!((orders.ended(at(10)), orders.switch().orders().count()), (Vec::new(), 3));
}

#[test]
fn what_does_not_stand_cannot_be_taken_back_unless_something_may_be_unknown() {
    let unhalt = order(runbook(0), SwitchState::Running, None);
    let mut orders = Orders::default();
    assert_eq!(orders.take(&unhalt, at(0)), Taken::Nothing);
    save(&mut orders, &order(runbook(0), SwitchState::Halted, Some(at(5))));
    assert!(matches!(orders.take(&unhalt, at(4)), Taken::Waits(_)));
    assert_eq!(orders.take(&unhalt, at(5)), Taken::Nothing);
    let mut orders = Orders::holding(KillSwitch::default(), false);
    assert!(matches!(orders.take(&unhalt, at(0)), Taken::Waits(_)));
}

#[test]
fn an_order_stands_as_long_as_the_one_before_it_until_the_store_knows_better() {
    let mut orders = Orders::default();
    save(&mut orders, &order(Scope::Global, SwitchState::Halted, None));
    let shorter = order(Scope::Global, SwitchState::Aborted, Some(at(10)));
    let Taken::Counts(ticket) = orders.take(&shorter, at(0)) else { panic!("it is stricter") };
    assert_eq!(orders.switch().global(at(20)), SwitchState::Aborted);
    orders.saved(ticket, &shorter);
    assert_eq!(orders.switch().global(at(20)), SwitchState::Running);
}

#[test]
fn while_the_store_takes_nothing_what_is_remembered_is_bounded() {
    let mut orders = Orders::default();
    for second in 0..3_i64 * i64::try_from(MAX_AHEAD).unwrap() {
        let again = order(Scope::Global, SwitchState::Halted, Some(at(1 + second)));
        assert!(matches!(orders.take(&again, at(0)), Taken::Counts(_)));
    }
    assert!(orders.unsaved().count() <= MAX_AHEAD);
    assert_eq!(orders.switch().global(at(2000)), SwitchState::Halted);
}

#[test]
fn a_milder_order_waits_and_one_that_came_before_does_not_outlive_it() {
    let mut orders = Orders::default();
    let (aborted, drained) =
        (order(Scope::Global, SwitchState::Aborted, None), order(Scope::Global, SwitchState::Draining, None));
    let Taken::Counts(unsaved) = orders.take(&aborted, at(0)) else { panic!("it is stricter") };
    let Taken::Waits(later) = orders.take(&drained, at(0)) else { panic!("it is milder") };
    assert_eq!(orders.switch().global(at(0)), SwitchState::Aborted);
    orders.saved(later, &drained);
    assert_eq!(orders.switch().global(at(0)), SwitchState::Draining);
    assert!(!orders.is_unsaved(unsaved), "trying it again would bring it back");
}

proptest! {
    /// The store takes the orders one by one, in the order in which they came; some fail, and those that count are
    /// tried again later unless something has taken their place.
    #[test]
    fn what_counts_is_never_milder_than_the_store_and_in_the_end_the_same(
        steps in prop::collection::vec((0_usize..3, 0_usize..4, any::<bool>()), 1..60),
    ) {
        let mut orders = Orders::default();
        let mut store = KillSwitch::default();
        let mut write = |orders: &mut Orders, ticket, order: &Order| {
            match order.state {
                SwitchState::Running => drop(store.clear(&order.scope)),
                _ => store.set(order.clone()),
            }
            orders.saved(ticket, order);
            store.clone()
        };
        for (number, (scope, state, is_taken)) in steps.into_iter().enumerate() {
            let scope = [Scope::Global, runbook(0), runbook(1)][scope].clone();
            let mut order = order(scope.clone(), SwitchState::ALL[state], None);
            order.reason = number.to_string();
            let counts = |orders: &Orders| orders.switch().get(&scope).map(|order| order.state);
            let before = counts(&orders);
            match orders.take(&order, at(0)) {
                Taken::Counts(ticket) => {
                    prop_assert_eq!(counts(&orders), Some(order.state), "at once");
                    if is_taken {
                        write(&mut orders, ticket, &order);
                    }
                }
                Taken::Waits(ticket) => {
                    prop_assert_eq!(counts(&orders), before, "not before the store has it");
                    if is_taken {
                        write(&mut orders, ticket, &order);
                        let after = (order.state > SwitchState::Running).then_some(order.state);
                        prop_assert_eq!(counts(&orders), after);
                    }
                }
                Taken::Nothing => prop_assert_eq!(before, None),
                Taken::TooMany => prop_assert!(false, "there are three"),
            }
        }
        let left: Vec<_> = orders.unsaved().map(|(ticket, order)| (ticket, order.clone())).collect();
        let counted = orders.switch();
        for (ticket, order) in left {
            if orders.is_unsaved(ticket) {
                write(&mut orders, ticket, &order);
            }
        }
        prop_assert_eq!(orders.unsaved().count(), 0);
        prop_assert_eq!(&orders.switch(), &counted);
        prop_assert_eq!(store, counted);
    }
}
