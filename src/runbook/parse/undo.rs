//! What belongs to a step beside its kind: its undo, its probe and the list it is done for.

use super::kinds::{self, Holder};
use super::{Around, effect, retry, templates};
use crate::document::Value;
use crate::model::Effect;
use crate::runbook::definition::{ForEach, Items, Kind, Retry, Undo};
use crate::runbook::template::{Scope, Template};
use std::time::Duration;

/// The most items a list that is written out can have.
const MAX_ITEMS: usize = 1000;

/// The section `[steps.undo]`.
pub(super) fn undo(value: Value<'_>, scope: &Scope, around: &Around<'_>) -> Option<Undo> {
    let mut table = value.table()?;
    let kind = kinds::read(&mut table, scope, around, Holder::Undo);
    let effect = table.take("effect");
    let timeout = effect::undo_timeout(&mut table);
    let retry = table.take("retry").and_then(Value::table).map(|inner| retry::read(inner, kind.as_ref()));
    table.finish();
    let kind = kind?;
    let effect = effect::of(effect.as_ref(), &kind)?;
    Some(Undo { kind, effect, timeout, retry: retry.unwrap_or_default() })
}

/// The undo of a silence that has no other.
pub(super) fn expire_silence() -> Undo {
    Undo {
        kind: Kind::ExpireSilence,
        effect: Effect::Idempotent,
        timeout: Duration::from_secs(10),
        retry: Retry { attempts: 3, ..Retry::default() },
    }
}

/// The key `probe`.
pub(super) fn probe(value: Value<'_>, scope: &Scope, around: &Around<'_>) -> Option<Kind> {
    let mut table = value.table()?;
    let kind = kinds::read(&mut table, scope, around, Holder::Probe);
    table.finish();
    kind
}

/// The key `for_each`; its own templates do not know the item.
pub(super) fn for_each(value: Value<'_>, kind: Option<&Kind>, scope: &Scope) -> Option<ForEach> {
    let once = |kind: &&Kind| effect::only_waits(kind) || matches!(kind, Kind::Check { .. });
    if let Some(kind) = kind.filter(once) {
        let message = format!("{} is not done for each item of a list", effect::named(kind.as_str()));
        value.error(
            message,
            "remove `for_each`, or use a command, script, http, promql, runbook, silence or ssh",
        );
    }
    let mut table = value.table()?;
    let help = "write items = [\"a\", \"b\"] or items = \"{{ inputs.units }}\"";
    let items = table.require("items", help).and_then(|value| items(value, scope, help));
    let concurrency = table.take("concurrency").and_then(|value| value.integer(1..=100));
    table.finish();
    let concurrency = concurrency.and_then(|count| count.try_into().ok()).unwrap_or(1);
    Some(ForEach { items: items?, concurrency })
}

fn items(value: Value<'_>, scope: &Scope, help: &str) -> Option<Items> {
    if value.is_string() {
        return templates::filled(&value, scope, "the list is empty", help).map(Items::Rendered);
    }
    let (site, path, problems) = (value.span(), value.path().to_owned(), value.problems());
    let items = value.array()?;
    if items.is_empty() {
        problems.error(site, &path, "the list is empty", help);
    } else if items.len() > MAX_ITEMS {
        problems.error(
            site,
            &path,
            format!("{} items are too many", items.len()),
            format!("at most {MAX_ITEMS}"),
        );
    }
    let listed: Vec<Template> = items.iter().filter_map(|item| templates::template(item, scope)).collect();
    Some(Items::Listed(listed))
}
