//! Breakers, quarantine and audit in the store: what is kept, what is not, and what is bound together.

use super::*;
use crate::guard::{
    Admission, BreakerKey, BreakerRecord, BreakerState, Change, Outcome, Profile, Profiles, Quarantine,
};
use crate::journal::{AuditEntry, Broken};
use crate::store::MemoryStore;
use std::collections::BTreeMap;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn records() -> Records {
    Records::new(Arc::new(MemoryStore::new()))
}

fn aggressive() -> Profile {
    Profiles::default().get("aggressive").unwrap().clone()
}

fn key_of(target: &str) -> BreakerKey {
    BreakerKey::of_runbook(&RunbookId::new("act").unwrap(), Some(&Target::new(target).unwrap()))
}

fn person() -> Person {
    Person { user: "ada".to_owned(), reason: "looked at it".to_owned() }
}

async fn outcome(records: &Records, target: &str, outcome: Outcome, second: i64) -> Option<Change> {
    let key = key_of(target);
    transact(&**records.store(), move |txn| {
        assert_eq!(breaker::admit(txn, &key, &aggressive(), "x", at(second))?, Admission::Yes);
        breaker::record(txn, &key, &aggressive(), "x", outcome, at(second))
    })
    .await
    .unwrap()
}

async fn keys_of(records: &Records, state: Option<BreakerState>) -> Vec<String> {
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let page = records.breakers(state, cursor.as_deref(), 2).await.unwrap();
        all.extend(page.items.into_iter().map(|record| record.key));
        cursor = page.next_cursor;
        if cursor.is_none() {
            all.sort();
            return all;
        }
    }
}

#[tokio::test]
async fn a_breaker_is_kept_only_while_it_has_something_to_remember() {
    let records = records();
    for target in ["a", "b", "c"] {
        assert_eq!(outcome(&records, target, Outcome::Success, 0).await, None);
    }
    assert!(dump(&records).await.is_empty());
    for second in 0..2 {
        outcome(&records, "a", Outcome::Failure, second).await;
    }
    assert_eq!(keys_of(&records, None).await, ["runbook:act:a"]);
    assert_eq!(records.tripped(10).await.unwrap(), []);
    assert!(matches!(outcome(&records, "a", Outcome::Failure, 2).await, Some(Change::Opened { .. })));
    let tripped = records.tripped(10).await.unwrap();
    assert_eq!((tripped.len(), tripped[0].profile.as_str(), tripped[0].templated), (1, "aggressive", true));
    assert_eq!(outcome(&records, "a", Outcome::Success, 32).await, Some(Change::Closed));
    assert!(dump(&records).await.is_empty());
}

async fn dump(records: &Records) -> Vec<Pair> {
    let all = Scan { prefix: Vec::new(), after: None, reverse: false, limit: usize::MAX };
    records.store().scan(all).await.unwrap()
}

#[tokio::test]
async fn lists_of_breakers_are_walked_by_cursor_and_state() {
    let records = records();
    for target in ["a", "b", "c", "d", "e"] {
        outcome(&records, target, Outcome::Failure, 0).await;
    }
    for target in ["b", "d", "e"] {
        outcome(&records, target, Outcome::Failure, 0).await;
        outcome(&records, target, Outcome::Failure, 0).await;
    }
    let probe = key_of("e");
    transact(&**records.store(), move |txn| breaker::admit(txn, &probe, &aggressive(), "e", at(40)))
        .await
        .unwrap();
    let names = |targets: &[&str]| targets.iter().map(|t| format!("runbook:act:{t}")).collect::<Vec<_>>();
    assert_eq!(keys_of(&records, None).await, names(&["a", "b", "c", "d", "e"]));
    assert_eq!(keys_of(&records, Some(BreakerState::Closed)).await, names(&["a", "c"]));
    assert_eq!(keys_of(&records, Some(BreakerState::Open)).await, names(&["b", "d"]));
    assert_eq!(keys_of(&records, Some(BreakerState::HalfOpen)).await, names(&["e"]));
    assert_eq!(records.tripped(2).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_person_opens_and_resets_and_both_are_audited_with_the_change() {
    let records = records();
    assert_eq!(records.reset_breaker("runbook:act:a", person(), at(1)).await.unwrap(), None);
    assert!(dump(&records).await.is_empty(), "a reset of nothing leaves nothing");
    assert_eq!(records.open_breaker("runbook:act:a", None, person(), at(1)).await.unwrap(), None);
    assert!(dump(&records).await.is_empty(), "nor does opening what nobody knows");
    let fresh = Some(BreakerRecord::blank(&key_of("a"), &aggressive()));
    let opened = records.open_breaker("runbook:act:a", fresh, person(), at(2)).await.unwrap().unwrap();
    assert!(opened.breaker.is_forced());
    let key = key_of("a");
    let admission =
        transact(&**records.store(), move |txn| breaker::admit(txn, &key, &aggressive(), "x", at(9_999_999)))
            .await
            .unwrap();
    assert_eq!(admission, Admission::No { retry_at: None });
    let reset = records.reset_breaker("runbook:act:a", person(), at(3)).await.unwrap().unwrap();
    assert_eq!(reset.breaker.state(), BreakerState::Closed);
    assert_eq!(records.breaker("runbook:act:a").await.unwrap(), None);
    let page = records.audit(&AuditFilter::default(), None, 10).await.unwrap();
    let seen: Vec<_> = page
        .items
        .iter()
        .map(|r| (r.seq, r.user.as_str(), r.action.as_str(), r.target.as_str(), r.detail["state"].as_str()))
        .collect();
    assert_eq!(
        seen,
        [
            (2, "ada", "breaker.reset", "runbook:act:a", "open"),
            (1, "ada", "breaker.open", "runbook:act:a", "closed")
        ]
    );
}

fn quarantine_of(target: &str) -> Quarantine {
    let runbook = RunbookId::new("act").unwrap();
    Quarantine {
        target: Target::new(target).unwrap(),
        execution: ExecutionId::of(&runbook, ulid::Ulid::from_parts(1, 1)),
        runbook,
        at: at(5),
        reason: "the undo of start failed".to_owned(),
    }
}

#[tokio::test]
async fn a_quarantine_stands_until_it_is_cleared_and_is_audited_at_both_ends() {
    let records = records();
    for target in ["a", "b", "c"] {
        let quarantine = quarantine_of(target);
        transact(&**records.store(), move |txn| quarantine::put(txn, &quarantine)).await.unwrap();
    }
    assert_eq!(records.count_quarantined(10).await.unwrap(), 3);
    assert_eq!(records.count_quarantined(2).await.unwrap(), 2);
    let first = records.quarantined(None, 2).await.unwrap();
    let second = records.quarantined(first.next_cursor.as_deref(), 2).await.unwrap();
    assert_eq!((first.items.len(), second.items.len(), second.next_cursor), (2, 1, None));
    let target = Target::new("b").unwrap();
    let cleared = records.clear_quarantine(&target, "ada", "mended", at(9)).await.unwrap();
    assert_eq!(cleared, Some(quarantine_of("b")));
    assert_eq!(records.clear_quarantine(&target, "ada", "again", at(9)).await.unwrap(), None);
    let filter = AuditFilter { target: Some("b".to_owned()), ..AuditFilter::default() };
    let page = records.audit(&filter, None, 10).await.unwrap();
    let seen: Vec<_> = page.items.iter().map(|r| (r.user.as_str(), r.action.as_str())).collect();
    assert_eq!(seen, [("ada", "quarantine.clear"), ("runbookd", "quarantine.put")]);
}

async fn log_of(length: usize) -> Records {
    let records = records();
    for number in 0..length {
        let entry = AuditEntry {
            at: at(number as i64),
            user: if number % 2 == 0 { "ada" } else { "bob" }.to_owned(),
            action: "breaker.reset",
            target: "k".to_owned(),
            reason: "ü".repeat(2000),
            detail: BTreeMap::new(),
        };
        transact(&**records.store(), move |txn| audit::append(txn, entry.clone())).await.unwrap();
    }
    records
}

#[tokio::test]
async fn the_log_is_filtered_and_walked_newest_first() {
    let records = log_of(7).await;
    let seqs = async |filter: &AuditFilter, cursor: Option<&str>, limit| {
        let page = records.audit(filter, cursor, limit).await.unwrap();
        (page.items.iter().map(|record| record.seq).collect::<Vec<_>>(), page.next_cursor)
    };
    let all = AuditFilter::default();
    let (first, cursor) = seqs(&all, None, 3).await;
    assert_eq!((first, cursor.as_deref()), (vec![7, 6, 5], Some("0000000005")));
    assert_eq!(seqs(&all, cursor.as_deref(), 10).await, (vec![4, 3, 2, 1], None));
    let of_bob = AuditFilter { user: Some("bob".to_owned()), since: Some(at(2)), ..all.clone() };
    assert_eq!(seqs(&of_bob, None, 10).await.0, [6, 4]);
    let none = AuditFilter { action: Some("breaker.open".to_owned()), ..all };
    assert_eq!(seqs(&none, None, 10).await, (vec![], None));
}

#[tokio::test]
async fn a_log_that_was_touched_does_not_verify() {
    let good = log_of(1200).await;
    let check = good.verify_audit().await.unwrap();
    assert_eq!((check.head.seq, check.broken), (1200, None));
    assert_eq!(records().verify_audit().await.unwrap().broken, None);
    let touched = async |change: fn(&mut dyn Txn) -> Result<(), CommitError>, expected: Broken| {
        let records = log_of(5).await;
        transact(&**records.store(), change).await.unwrap();
        assert_eq!(records.verify_audit().await.unwrap().broken, Some(expected));
    };
    let removed: fn(&mut dyn Txn) -> Result<(), CommitError> = |txn| {
        txn.delete(key::audit(3));
        Ok(())
    };
    touched(removed, Broken::Gap { expected: 3, found: 4 }).await;
    touched(
        |txn| {
            txn.delete(key::audit(5));
            Ok(())
        },
        Broken::Cut { expected: 5, found: 4 },
    )
    .await;
    touched(
        |txn| {
            txn.delete(key::audit_head());
            Ok(())
        },
        Broken::Beyond { last: 0, found: 5 },
    )
    .await;
    touched(
        |txn| {
            txn.put(key::audit(2), b"nonsense".to_vec());
            Ok(())
        },
        Broken::Changed(2),
    )
    .await;
    touched(
        |txn| {
            let mut record: AuditRecord = read(txn, &key::audit(2))?.unwrap();
            record.user = "eve".to_owned();
            txn.put(key::audit(2), to_bytes(&record)?);
            Ok(())
        },
        Broken::Changed(2),
    )
    .await;
}

#[tokio::test]
async fn a_long_text_is_cut_at_a_character() {
    let records = log_of(1).await;
    let page = records.audit(&AuditFilter::default(), None, 1).await.unwrap();
    assert_eq!(page.items[0].reason, "ü".repeat(1024));
    assert_eq!(records.verify_audit().await.unwrap().broken, None);
}

#[tokio::test]
async fn a_change_whose_audit_record_cannot_be_written_does_not_happen() {
    let records = log_of(1).await;
    transact(&**records.store(), |txn| {
        txn.put(key::audit_head(), b"damaged".to_vec());
        Ok(())
    })
    .await
    .unwrap();
    let fresh = Some(BreakerRecord::blank(&key_of("a"), &aggressive()));
    let refused = records.open_breaker("runbook:act:a", fresh, person(), at(1)).await;
    assert!(matches!(refused, Err(CommitError::Read(ReadError::Damaged { .. }))), "{refused:?}");
    assert_eq!(records.breaker("runbook:act:a").await.unwrap(), None);
}
