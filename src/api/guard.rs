//! Breakers, quarantined targets, storms, freezes, what shadow mode counted, and what came of checking the audit log, as shown.

use crate::guard::{BreakerRecord, Freeze, Quarantine, Storm, StormLimit, Tally, freeze};
use crate::model::{Reason, Timestamp};
use crate::runbook::Pinned;
use crate::store::records::AuditCheck;
use crate::store::records::credential::CredentialRecord;
use serde_json::{Value, json};

/// One breaker.
pub fn breaker(record: &BreakerRecord) -> Value {
    let breaker = &record.breaker;
    json!({
        "key": record.key,
        "state": breaker.state(),
        "failures": breaker.failures(),
        "opened_at": breaker.opened_at(),
        "retry_at": breaker.retry_at(),
        "profile": record.profile,
        "forced": breaker.is_forced(),
        "probe": breaker.probe(),
        "runbook": record.runbook,
    })
}

/// One quarantined target.
pub fn quarantine(quarantine: &Quarantine) -> Value {
    json!({
        "target": quarantine.target,
        "runbook": quarantine.runbook,
        "execution_id": quarantine.execution,
        "at": quarantine.at,
        "reason": quarantine.reason,
    })
}

/// How many episodes begin, and the storm if there is one.
pub fn storm(limit: StormLimit, storm: &Storm, now: Timestamp) -> Value {
    let raging = storm.raging(limit, now);
    json!({
        "active": raging.is_some(),
        "episodes_per_minute": storm.rate(now),
        "allowed": limit.episodes_per_minute,
        "since": raging.map(|raging| raging.since),
        "until": raging.map(|raging| raging.until),
    })
}

/// The freezes in force.
pub fn freezes(freezes: &[Freeze], now: Timestamp) -> Vec<Value> {
    let view = |(freeze, until): (&Freeze, Timestamp)| json!({ "name": freeze.name, "until": until, "allow_manual": freeze.allow_manual });
    freeze::in_force(freezes, now).map(view).collect()
}

/// What the live version of a runbook would have done in shadow mode, and what the one counted before it would have.
/// `tally` is of the version that was last counted, `not_asked` the gates that would have been asked in earnest.
pub fn shadow(pinned: &Pinned, tally: Option<&Tally>, not_asked: &[Reason]) -> Value {
    let live = tally.filter(|tally| tally.version == pinned.version);
    let previous = match (live, tally) {
        (Some(live), _) => live.previous.as_deref(),
        (None, other) => other,
    };
    json!({
        "runbook": pinned.runbook.id,
        "mode": pinned.runbook.mode.as_str(),
        "version": pinned.version,
        "since": live.map(|tally| tally.since),
        "would_have_run": live.map_or(0, |tally| tally.would_have_run),
        "denied": live.map(|tally| tally.denied.clone()).unwrap_or_default(),
        "not_asked": not_asked,
        "previous": previous.map(|tally| json!({
            "version": tally.version,
            "since": tally.since,
            "would_have_run": tally.would_have_run,
            "denied": tally.denied,
        })),
    })
}

/// A stored credential, without its secret; `usable` where a key opens it.
pub fn credential(record: &CredentialRecord, usable: bool) -> Value {
    json!({
        "id": record.id,
        "name": record.name,
        "type": record.kind.as_str(),
        "created_at": record.created_at,
        "updated_at": record.updated_at,
        "by": record.by,
        "usable": usable,
    })
}

/// Whether the audit log is whole.
pub fn audit_check(check: &AuditCheck) -> Value {
    json!({
        "ok": check.broken.is_none(),
        "records": check.head.seq.saturating_sub(check.base.seq),
        "seq": check.head.seq,
        "head": check.head.hash,
        "cut_off": check.base.seq,
        "problem": check.broken.as_ref().map(ToString::to_string),
    })
}
