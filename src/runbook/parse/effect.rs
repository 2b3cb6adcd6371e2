//! What a crash may do to a step, and how long its attempts may take.

use super::{Around, DAY, MINUTE};
use crate::document::{Table, Value};
use crate::model::Effect;
use crate::runbook::definition::Kind;
use std::time::Duration;

const SHORTEST: Duration = Duration::from_millis(10);

/// What the author says, or what the kind suggests.
pub(super) fn of(value: Option<&Value<'_>>, kind: &Kind) -> Option<Effect> {
    value.map_or_else(|| Some(default(kind)), |value| declared(value, kind))
}

/// The kind with its article: `an approve`.
pub(super) fn named(kind: &str) -> String {
    let vowel = kind.starts_with(['a', 'i']) || matches!(kind, "http" | "ssh");
    format!("{} {kind}", if vowel { "an" } else { "a" })
}

/// Whether it waits for time, a condition or a person, instead of attempting something.
pub(super) fn only_waits(kind: &Kind) -> bool {
    matches!(kind, Kind::Wait { .. } | Kind::Until(_) | Kind::Approve(_) | Kind::Instruct { .. })
}

fn default(kind: &Kind) -> Effect {
    match kind {
        Kind::Wait { .. }
        | Kind::Check { .. }
        | Kind::Instruct { .. }
        | Kind::Promql { .. }
        | Kind::Until(_)
        | Kind::Approve(_) => Effect::ReadOnly,
        Kind::Http(http) => match http.method.as_str() {
            "GET" | "HEAD" => Effect::ReadOnly,
            "PUT" | "DELETE" => Effect::Idempotent,
            _ => Effect::AtMostOnce,
        },
        // It is looked for before it is made or ended, so twice is the same as once. A child execution has
        // a journal of its own and is found again by its id.
        Kind::Silence(_) | Kind::ExpireSilence | Kind::Runbook { .. } => Effect::Idempotent,
        // Every attempt carries the same key, by which whoever takes it knows a second one.
        Kind::Notify(_) => Effect::Keyed,
        Kind::Command(_) | Kind::Script(_) | Kind::Ssh(_) => Effect::AtMostOnce,
    }
}

/// What the author says. An author may know that a program only looks, but a step that never changes
/// anything cannot be said to.
fn declared(value: &Value<'_>, kind: &Kind) -> Option<Effect> {
    let effect = words(value)?;
    let looks = matches!(
        kind,
        Kind::Wait { .. }
            | Kind::Check { .. }
            | Kind::Instruct { .. }
            | Kind::Promql { .. }
            | Kind::Until(_)
            | Kind::Approve(_)
    );
    if looks && effect.is_changing() {
        let message = format!("{} changes nothing", named(kind.as_str()));
        value.error(message, "remove `effect`, or use a command for what changes something");
        return None;
    }
    if matches!(kind, Kind::Silence(_) | Kind::Runbook { .. } | Kind::Notify(_)) && effect == Effect::ReadOnly
    {
        value.error(format!("{} changes something", named(kind.as_str())), "remove `effect`");
        return None;
    }
    Some(effect)
}

/// The time of one attempt. A wait without one may last as long as it says, and a minute; what waits for a
/// condition or for a person may last as long as the runbook.
pub(super) fn timeout(kind: &Kind, given: Option<Value<'_>>, around: &Around<'_>) -> Option<Duration> {
    let long = matches!(kind, Kind::Until(_) | Kind::Instruct { acknowledge: true, .. });
    if let Kind::Approve(approve) = kind {
        if let Some(value) = given {
            value.error("an approval is limited by `expires`", "remove it, and write `expires` there");
        }
        return Some(approve.approval.expires);
    }
    let wait = match kind {
        Kind::Wait { duration } => *duration,
        _ => Duration::ZERO,
    };
    let Some(value) = given else {
        return Some(match kind {
            _ if long => around.timeout,
            Kind::Wait { .. } => wait + MINUTE,
            _ => MINUTE,
        });
    };
    let timeout = value.duration(SHORTEST..=if long { 30 * DAY } else { DAY })?;
    if timeout <= wait {
        let message = "the wait is as long as its timeout, so it would always time out";
        value.error(message, "make the timeout longer, or remove it");
    }
    Some(timeout)
}

/// The time of one attempt of an undo.
pub(super) fn undo_timeout(table: &mut Table<'_>) -> Duration {
    table.take("timeout").and_then(|value| value.duration(SHORTEST..=DAY)).unwrap_or(MINUTE)
}

/// Reads the keys of a step of which nothing else is known.
pub(super) fn alone(effect: Option<Value<'_>>, timeout: Option<Value<'_>>, total: Option<Value<'_>>) {
    let _effect = effect.and_then(|value| words(&value));
    for value in [timeout, total].into_iter().flatten() {
        let _duration = value.duration(SHORTEST..=30 * DAY);
    }
}

fn words(value: &Value<'_>) -> Option<Effect> {
    value.one_of(&Effect::ALL.map(|effect| (effect.as_str(), effect)))
}

/// The time of all attempts, which is at least that of one, where that is known.
pub(super) fn total_timeout(value: &Value<'_>, one: Option<Duration>) -> Option<Duration> {
    let total = value.duration(SHORTEST..=30 * DAY)?;
    if let Some(one) = one.filter(|one| total < *one) {
        let one = humantime::format_duration(one);
        let message = format!("there is not the time for one attempt, which may take {one}");
        value.error(message, "make `total_timeout` longer or `timeout` shorter");
    }
    Some(total)
}
