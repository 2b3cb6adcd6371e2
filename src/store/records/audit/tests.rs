//! The audit log against whoever touches the store.

use super::*;
use crate::store::{MemoryStore, Store};
use std::sync::Arc;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

async fn log_of(length: i64) -> Records {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let records = Records::new(store);
    for second in 0..length {
        let entry = AuditEntry {
            at: at(second),
            user: "ada".to_owned(),
            action: "breaker.reset",
            target: "k".to_owned(),
            reason: "ü \"quoted\"".to_owned(),
            detail: [("state".to_owned(), "open".to_owned())].into(),
        };
        transact(&**records.store(), move |txn| append(txn, entry.clone()).map(drop)).await.unwrap();
    }
    records
}

async fn put(records: &Records, key: &[u8], value: Option<Vec<u8>>) {
    let key = key.to_vec();
    transact(&**records.store(), move |txn| {
        match &value {
            Some(value) => txn.put(key.clone(), value.clone()),
            None => txn.delete(key.clone()),
        }
        Ok(())
    })
    .await
    .unwrap();
}

async fn is_broken(records: &Records) -> bool {
    records.verify_audit().await.unwrap().broken.is_some()
}

#[tokio::test]
async fn t38_every_flipped_byte_is_found() {
    let records = log_of(5).await;
    assert_eq!(records.cut_audit(at(2), at(9)).await.unwrap(), 2);
    let all = Scan { prefix: b"a".to_vec(), after: None, reverse: false, limit: 100 };
    let pairs = records.store().scan(all).await.unwrap();
    assert_eq!(pairs.len(), 6, "four records, the end and where it was cut");
    for (key, value) in pairs {
        for place in 0..value.len() {
            for flip in [0x01, 0x20, 0x80] {
                let mut touched = value.clone();
                touched[place] ^= flip;
                put(&records, &key, Some(touched)).await;
                assert!(is_broken(&records).await, "{} byte {place}", key.escape_ascii());
            }
        }
        put(&records, &key, None).await;
        assert!(is_broken(&records).await, "{} removed", key.escape_ascii());
        put(&records, &key, Some(value)).await;
    }
    assert!(!is_broken(&records).await);
}

#[tokio::test]
async fn t38_records_that_change_places_or_are_said_twice_are_found() {
    let records = log_of(4).await;
    let value = |seq| records.store().get(&key::audit(seq));
    let (second, third) = (value(2).await.unwrap().unwrap(), value(3).await.unwrap().unwrap());
    put(&records, &key::audit(2), Some(third.clone())).await;
    assert!(is_broken(&records).await);
    put(&records, &key::audit(3), Some(second.clone())).await;
    assert!(is_broken(&records).await);
    put(&records, &key::audit(2), Some(second)).await;
    put(&records, &key::audit(3), Some(third.clone())).await;
    assert!(!is_broken(&records).await);
    put(&records, &key::audit(5), Some(third)).await;
    assert!(is_broken(&records).await, "one behind the end");
}

#[tokio::test]
async fn the_front_is_cut_off_by_age_and_the_rest_verifies() {
    let records = log_of(6).await;
    assert_eq!(records.cut_audit(at(0), at(9)).await.unwrap(), 0);
    assert_eq!(records.verify_audit().await.unwrap().head.seq, 6, "nothing to cut leaves no record");
    assert_eq!(records.cut_audit(at(3), at(9)).await.unwrap(), 3);
    assert_eq!(records.cut_audit(at(3), at(9)).await.unwrap(), 0);
    assert_eq!(records.cut_audit(at(5), at(10)).await.unwrap(), 2);
    let check = records.verify_audit().await.unwrap();
    assert_eq!((check.base.seq, check.head.seq, check.broken), (5, 8, None));
    let page = records.audit(&AuditFilter::default(), None, 10).await.unwrap();
    let shown: Vec<_> = page.items.iter().map(|record| (record.seq, record.action.as_str())).collect();
    assert_eq!(shown, [(8, CUT), (7, CUT), (6, "breaker.reset")]);
    // Whoever cuts more off and moves the border along is found out by the last record of a cut.
    let sixth: AuditRecord =
        serde_json::from_slice(&records.store().get(&key::audit(6)).await.unwrap().unwrap()).unwrap();
    put(&records, &key::audit(6), None).await;
    put(&records, b"a-base", Some(to_bytes(&sixth.head()).unwrap())).await;
    assert_eq!(records.verify_audit().await.unwrap().broken, Some(Broken::Front(6)));
}

#[tokio::test]
async fn a_great_front_is_cut_off_in_portions() {
    let records = log_of(MAX_CUT as i64 + 20).await;
    let cutoff = at(MAX_CUT as i64 + 10);
    assert_eq!(records.cut_audit(cutoff, at(9_999)).await.unwrap(), MAX_CUT as u64);
    assert_eq!(records.cut_audit(cutoff, at(9_999)).await.unwrap(), 10);
    assert_eq!(records.verify_audit().await.unwrap().broken, None);
}
