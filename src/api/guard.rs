//! Breakers, quarantined targets, and what came of checking the audit log, as shown.

use crate::guard::{BreakerRecord, Quarantine};
use crate::store::records::AuditCheck;
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

/// Whether the audit log is whole.
pub fn audit_check(check: &AuditCheck) -> Value {
    json!({
        "ok": check.broken.is_none(),
        "records": check.head.seq,
        "head": check.head.hash,
        "problem": check.broken.as_ref().map(ToString::to_string),
    })
}
