//! Escalations in the store: what is counted, what is bounded, and who took it.

use super::*;
use crate::model::{EpisodeKey, ExecutionStatus, Reason};
use crate::report::{Cause, DeliveryState, Denial, Directory, MAX_TARGETS, plan, told};
use crate::store::MemoryStore;
use std::sync::Arc;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn denial(runbook: &str, target: &str, second: i64) -> Denial {
    Denial {
        runbook: RunbookId::new(runbook).unwrap(),
        title: "R".into(),
        reason: Reason::BreakerOpen,
        message: "open".into(),
        target: Some(target.into()),
        alertname: None,
        source_url: String::new(),
        alert_url: String::new(),
        to: None,
        execution: None,
        episode: None,
        at: at(second),
    }
}

/// The end of an execution of `runbook` on `target`, as people are told of it.
pub(crate) fn failed(runbook: &str, target: &str, now: Timestamp) -> Escalation {
    let runbook = RunbookId::new(runbook).unwrap();
    let id = EscalationId::of(now, &format!("{runbook} {target}"));
    let denial = Denial { target: Some(target.into()), at: now, ..denial(runbook.as_str(), target, 0) };
    Escalation {
        execution: Some(ExecutionId::new(&format!("{runbook}_{id}")).unwrap()),
        id,
        cause: Cause::Finished,
        status: Some(ExecutionStatus::Failed),
        reason: Some(Reason::StepFailed),
        target: Some(target.into()),
        totals: None,
        due: now,
        ..many::one_of(&denial)
    }
}

async fn deny(records: &Records, denial: Denial) {
    transact(&**records.store(), move |txn| denied(txn, &denial)).await.unwrap();
}

fn records() -> Records {
    Records::new(Arc::new(MemoryStore::new()))
}

async fn all(records: &Records) -> Vec<Escalation> {
    records.escalations(&EscalationFilter::default(), None, 500).await.unwrap().items
}

#[tokio::test]
async fn denials_of_a_runbook_are_one_escalation_an_hour_with_a_bounded_list_of_targets() {
    let records = records();
    for number in 0..50 {
        deny(&records, denial("a", &format!("t{}", number % 30), 1000 + number)).await;
    }
    deny(&records, denial("b", "t0", 1000)).await;
    deny(&records, Denial { to: Some(vec![]), ..denial("c", "t0", 1000) }).await;
    let found = all(&records).await;
    assert_eq!(found.len(), 2);
    let one = found.iter().find(|one| one.runbook.as_str() == "a").unwrap();
    let totals = one.totals.as_ref().unwrap();
    assert_eq!((totals.count, totals.targets.len(), totals.more_targets), (50, MAX_TARGETS, true));
    assert_eq!(one.due, at(1005), "the totals gather first");
    deny(&records, denial("a", "t0", 1000 + 3600)).await;
    assert_eq!(all(&records).await.len(), 3);
}

async fn put(records: &Records, one: Escalation) -> bool {
    transact(&**records.store(), move |txn| open(txn, &one)).await.unwrap()
}

async fn backlog(records: &Records) -> Backlog {
    records.backlogs().await.unwrap().remove(0).1
}

#[tokio::test]
async fn beyond_the_bound_one_stands_for_all_and_each_is_listed_and_room_comes_back() {
    let records = records();
    let one = |number: u64| failed("a", &format!("t{number}"), at(5));
    for number in 0..MAX_PENDING {
        assert!(put(&records, one(number)).await);
    }
    assert!(put(&records, one(0)).await, "the same once more is no more");
    let beyond = one(MAX_PENDING);
    assert!(!put(&records, beyond.clone()).await);
    assert!(!put(&records, beyond.clone()).await, "nor is this one");
    let listed = records.escalations_of(beyond.execution.as_ref().unwrap()).await.unwrap();
    assert_eq!(listed[0].standing, Standing::Dropped, "it shows where the execution does");
    // What was left half undone is not lost among the others.
    let damage = Escalation { status: Some(ExecutionStatus::RollbackFailed), ..one(5000) };
    assert!(!put(&records, damage).await);
    assert!(!put(&records, one(5001)).await);
    let floods: Vec<Escalation> =
        all(&records).await.into_iter().filter(|one| one.cause == Cause::Flood).collect();
    let mut counts: Vec<_> =
        floods.iter().map(|one| (one.urgency(), one.totals.as_ref().unwrap().count)).collect();
    counts.sort();
    assert_eq!(counts, [(crate::report::Urgency::Damage, 1), (crate::report::Urgency::Held, 2)]);
    assert_eq!(backlog(&records).await, Backlog { pending: MAX_PENDING + 2, dropped: 3 });
    for number in 0..3 {
        records.change_escalation(&one(number).id, |_| false).await.unwrap();
    }
    assert!(put(&records, one(6000)).await, "room comes back");
}

#[tokio::test]
async fn what_was_accepted_takes_no_place_while_a_later_level_waits() {
    let records = records();
    let level = |minutes: u64| crate::report::Level {
        after: std::time::Duration::from_secs(60 * minutes),
        to: vec!["n".into()],
    };
    let directory = Directory {
        notifiers: [("n".to_owned(), true)].into(),
        policies: [("team".to_owned(), vec![level(0), level(60)])].into(),
        escalate_to: vec!["team".into()],
    };
    let one = |number: u64| failed("a", &format!("t{number}"), at(5));
    for number in 0..MAX_PENDING {
        assert!(put(&records, one(number)).await);
    }
    let ids: Vec<EscalationId> = (0..MAX_PENDING).map(|number| one(number).id).collect();
    let changed = records.change_escalations(&ids, move |one| {
        one.deliveries = Some(plan(one, &directory));
        told(one, crate::report::Act::Send(0), &Ok(None), at(6));
        true
    });
    assert_eq!(changed.await.unwrap().len(), ids.len());
    assert_eq!(backlog(&records).await, Backlog::default());
    assert_eq!(
        records.pending_escalations(5000).await.unwrap().len(),
        ids.len(),
        "the boss is still to come"
    );
    assert!(put(&records, one(MAX_PENDING)).await);
}

#[tokio::test]
async fn a_denial_counts_its_alerts_until_they_resolve() {
    let records = records();
    let episode = |name: &str| {
        let labels = crate::model::Labels::from([("alertname".to_owned(), name.to_owned())]);
        EpisodeKey { fingerprint: crate::model::Fingerprint::of(&labels), labels }
    };
    for name in ["x", "y", "x"] {
        let denial = Denial { episode: Some(episode(name)), ..denial("a", name, 1000) };
        deny(&records, denial).await;
    }
    let totals = |all: Vec<Escalation>| {
        let totals = all[0].totals.clone().unwrap();
        (totals.count, totals.firing, totals.is_over())
    };
    assert_eq!(totals(all(&records).await), (3, 2, false), "what fires is counted once");
    for (name, left) in [("x", (3, 1, false)), ("x", (3, 1, false)), ("y", (3, 0, true))] {
        transact(&**records.store(), move |txn| ended(txn, &episode(name))).await.unwrap();
        assert_eq!(totals(all(&records).await), left, "{name}");
    }
    deny(&records, Denial { episode: Some(episode("x")), ..denial("a", "x", 1500) }).await;
    assert_eq!(totals(all(&records).await), (4, 1, false), "it fires again");
    // Of one that became an execution, the end of the execution's alert counts.
    let id = ExecutionId::new("a_01J9ZQ5K3M8N7P6R5S4T3V2W1X").unwrap();
    let late = Denial { execution: Some(id.clone()), alertname: Some("A".into()), ..denial("a", "z", 1501) };
    deny(&records, late).await;
    assert_eq!(totals(all(&records).await), (5, 2, false));
    for _ in 0..2 {
        let id = id.clone();
        transact(&**records.store(), move |txn| resolved(txn, &id, at(1600))).await.unwrap();
    }
    assert_eq!(totals(all(&records).await), (5, 1, false));
    assert!(all(&records).await[0].is_open(), "that is for the end of its hour to say");
}

#[tokio::test]
async fn a_person_takes_an_escalation_once_and_the_log_says_who() {
    let records = records();
    deny(&records, denial("a", "t", 1000)).await;
    let id = all(&records).await[0].id.clone();
    let directory = Directory {
        notifiers: [("n".to_owned(), true)].into(),
        escalate_to: vec!["n".into()],
        ..Directory::default()
    };
    let planned = records.change_escalation(&id, move |one| {
        one.deliveries = Some(plan(one, &directory));
        told(one, crate::report::Act::Send(0), &Ok(None), at(1001));
        false
    });
    assert_eq!(planned.await.unwrap().unwrap().deliveries()[0].state, DeliveryState::Sent);
    assert!(records.pending_escalations(10).await.unwrap().is_empty());
    for user in ["ada", "bob"] {
        let person = Person { user: user.into(), reason: "mine".into() };
        let taken = records.acknowledge_escalation(&id, person, at(1002)).await.unwrap().unwrap();
        assert_eq!(taken.closed.unwrap().by.as_deref(), Some("ada"));
    }
    assert_eq!(records.pending_escalations(10).await.unwrap().len(), 1, "it is taken back at the far side");
    let log = records.audit(&Default::default(), None, 10).await.unwrap().items;
    assert_eq!(
        (log.len(), log[0].action.as_str(), log[0].user.as_str()),
        (1, "escalation.acknowledge", "ada")
    );
}
