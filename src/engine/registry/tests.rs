//! The memory of the engine by itself: places, locks, counts.

use super::*;

fn parked(number: u128, wake: Option<Timestamp>) -> Parked {
    let id = ExecutionId::numbered(&RunbookId::new("r_1").unwrap(), number);
    let (status, created_at) = (ExecutionStatus::Running, Timestamp::UNIX_EPOCH);
    Parked { id, status, created_at, lock: Some(format!("t{number}")), wake, root: None }
}

#[test]
fn a_parked_execution_is_small_and_parked_again_it_is_as_small() {
    assert!(size_of::<(Key, Live)>() <= 56, "{}", size_of::<(Key, Live)>());
    let (mut registry, one) = (Registry::new(1), parked(7, None));
    assert!(registry.take_in(&one) && !registry.take_in(&one));
    assert_eq!(registry.send(&one.id, Input::Tick), Sent::Drive);
    assert_eq!(registry.send(&one.id, Input::Tick), Sent::Told);
    assert!(registry.take_slot(&one.id));
    assert_eq!(registry.driven(), std::slice::from_ref(&one.id));
    assert!(!registry.park(&one.id, None), "something has arrived");
    assert_eq!(registry.take_inputs(&one.id).len(), 2);
    assert!(registry.park(&one.id, None));
    assert!(registry.driven().is_empty() && registry.live[&Key(0, 7)].busy.is_none());
    registry.finish(&one.id);
    assert!(registry.live.is_empty() && registry.locks.is_empty() && registry.running == 0);
}

#[test]
fn timers_come_due_in_order_and_far_ones_are_kept() {
    let mut registry = Registry::new(1);
    let second = |second| Some(Timestamp::from_second(second).unwrap());
    for (number, wake) in [(1, second(30)), (2, second(10)), (3, Some(Timestamp::MAX)), (4, None)] {
        registry.take_in(&parked(number, wake));
    }
    assert_eq!(registry.next_timer(), second(10));
    let due = registry.due(Timestamp::from_second(30).unwrap());
    assert_eq!(due, [parked(2, None).id, parked(1, None).id]);
    assert!(registry.next_timer().is_some_and(|at| at > Timestamp::from_second(9_000_000_000).unwrap()));
    assert_eq!(registry.timer_of(&parked(1, None).id), None);
}
