//! The kill switch, as shown.

use crate::guard::{KillSwitch, Order, Scope, SwitchState};
use crate::model::Timestamp;
use serde_json::{Value, json};

/// The orders that stand at `now`; `unsaved` are those that are not durable yet.
pub fn orders(switch: &KillSwitch, unsaved: &[Order], now: Timestamp) -> Vec<Value> {
    let view = |order: &Order| {
        let durable = !unsaved.iter().any(|unsaved| unsaved.scope == order.scope);
        json!({
            "scope": scope(&order.scope),
            "state": order.state,
            "by": order.by,
            "reason": order.reason,
            "at": order.at,
            "expires_at": order.expires_at,
            "durable": durable,
        })
    };
    switch.orders().filter(|order| order.stands(now)).map(view).collect()
}

/// What is in force at `now`; `unsaved` are the orders that are not durable yet.
pub fn automation(switch: &KillSwitch, unsaved: &[Order], now: Timestamp) -> Value {
    let global = switch.strictest(&[], None, now);
    json!({
        "state": global.map_or(SwitchState::Running, |order| order.state),
        "reason": global.map(Order::sentence),
        "orders": orders(switch, unsaved, now),
    })
}

/// As a request would name it; nothing for everything.
fn scope(scope: &Scope) -> Value {
    match scope {
        Scope::Global => Value::Null,
        Scope::File => json!({ "file": true }),
        Scope::Runbook(id) => json!({ "runbook": id }),
        Scope::Matchers(matchers) => {
            json!({ "matchers": matchers.iter().map(ToString::to_string).collect::<Vec<_>>() })
        }
    }
}
