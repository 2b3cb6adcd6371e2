//! API keys and the history of a runbook.

use crate::model::Timestamp;
use crate::store::records::Header;
use crate::store::records::identity::KeyRecord;
use crate::store::records::refusal::RefusalRecord;
use serde_json::{Value, json};

/// A key without what it opens with.
pub fn key(record: &KeyRecord, now: Timestamp) -> Value {
    json!({
        "id": record.id,
        "name": record.name,
        "owner": record.owner,
        "roles": record.roles,
        "created_at": record.created_at,
        "expires_at": record.expires_at,
        "expired": now >= record.expires_at,
        "last_used": record.last_used,
    })
}

/// An execution in the history of its runbook.
pub fn executed(header: &Header, by: &str, reason: Option<&str>) -> Value {
    json!({
        "operation": "execute",
        "start_timestamp": header.started_at.unwrap_or(header.created_at),
        "finish_timestamp": header.finished_at,
        "execution_id": header.id,
        "status": header.status,
        "reason": header.reason,
        "breadcrumb": { "at_time": header.created_at, "by_user": by, "why": reason },
        "trigger": header.trigger,
        "errors": [],
    })
}

/// Something a person was not allowed to do to it.
pub fn refused(record: &RefusalRecord) -> Value {
    json!({
        "operation": record.operation,
        "start_timestamp": record.at,
        "finish_timestamp": record.at,
        "return_code": 403,
        "execution_id": record.execution,
        "breadcrumb": {
            "at_time": record.at,
            "by_user": record.user,
            "from_ip": record.client,
            "correlation_id": record.request_id,
            "roles": record.roles,
        },
        "errors": [record.why],
    })
}
