//! The list `[[steps]]`: what every kind of step has in common.
//!
//! An id is `[A-Za-z0-9_-]{1,64}`. One that is a plain name is written `steps.ID` in templates, any
//! other one `steps["ID"]`.

use super::kinds::{self, Holder};
use super::order::Order;
use super::{Around, MAX_STEPS, effect, head, retry, templates, undo};
use crate::document::{Place, Severity, Table, Value};
use crate::model::{Effect, StepId};
use crate::runbook::definition::{Kind, OnFailure, Retry, Step, Undo};
use crate::runbook::template::Scope;
use std::time::Duration;

/// A step of which only its name and place were read, because templates of other steps may name it.
pub(super) struct Draft<'d> {
    id: Option<StepId>,
    pub(super) is_finally: bool,
    pub(super) after: Option<Value<'d>>,
    table: Table<'d>,
}

impl Draft<'_> {
    /// The id; empty where it cannot be read.
    pub(super) fn name(&self) -> &str {
        self.id.as_ref().map_or("", StepId::as_str)
    }
}

/// Reads the ids, which must differ, and what says when each runs.
pub(super) fn drafts<'d>(root: &mut Table<'d>) -> Vec<Draft<'d>> {
    let help = "write at least one [[steps]]";
    let Some(value) = root.require("steps", help) else { return Vec::new() };
    let (site, problems) = (value.span(), value.problems());
    let Some(items) = value.array() else { return Vec::new() };
    if items.is_empty() {
        problems.error(site, "steps", "a runbook needs a step", help);
    } else if items.len() > MAX_STEPS {
        let message = format!("{} steps are too many", items.len());
        problems.error(site, "steps", message, format!("at most {MAX_STEPS}; call another runbook"));
        return Vec::new();
    }
    let mut drafts: Vec<Draft<'d>> = Vec::new();
    for mut table in items.into_iter().filter_map(Value::table) {
        let id = table.require("id", "write id = \"name\"").and_then(|value| {
            let id = value.parsed("use letters, digits, _ and -", StepId::new)?;
            if drafts.iter().any(|draft| draft.id.as_ref() == Some(&id)) {
                value.error(format!("the step id `{id}` is used twice"), "give each step its own id");
            }
            Some(id)
        });
        let is_finally = table.take("finally").and_then(|value| value.boolean()).unwrap_or(false);
        let after = table.take("after");
        drafts.push(Draft { id, is_finally, after, table });
    }
    drafts
}

/// Reads the rest of every step.
pub(super) fn read(
    drafts: Vec<Draft<'_>>,
    order: &Order,
    scope: &Scope,
    around: &Around<'_>,
    has_target: bool,
) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut targetless = has_target;
    for (index, Draft { id, is_finally, mut table, .. }) in drafts.into_iter().enumerate() {
        let site = table.site();
        let (path, problems) = (table.path().to_owned(), table.problems());
        let place = InOrder { index, is_finally, order, scope };
        let step = step(id, &mut table, &place, around);
        table.finish();
        let Some(step) = step else { continue };
        if step.effect.is_changing() && !targetless {
            targetless = true;
            let message =
                format!("the step `{}` can change something, but the runbook has no target", step.id);
            let help = "write target = \"{{ labels.instance }}\" at the top, or effect = \"read_only\" if it only looks";
            problems.error(site, &path, message, help);
        }
        steps.push(step);
    }
    steps
}

/// Where a step stands among the others.
pub(super) struct InOrder<'o> {
    index: usize,
    is_finally: bool,
    order: &'o Order,
    scope: &'o Scope,
}

impl InOrder<'_> {
    /// The names known while the step runs.
    fn running(&self, has_item: bool) -> Scope {
        Scope { turns: Some(self.order.running(self.index)), has_item, ..self.scope.clone() }
    }

    /// The names known while it is undone.
    fn undoing(&self, has_item: bool) -> Scope {
        Scope { turns: Some(self.order.undoing(self.index)), has_item, ..self.scope.clone() }
    }
}

fn step(id: Option<StepId>, table: &mut Table<'_>, place: &InOrder<'_>, around: &Around<'_>) -> Option<Step> {
    let title = table.take("title").and_then(|value| head::one_line(&value));
    let has_item = table.has("for_each");
    let (once, each) = (place.running(false), place.running(has_item));
    let kind = kinds::read(table, &each, around, Holder::Step);
    let effect = table.take("effect");
    let when = table.take("when").and_then(|value| templates::expression(&value, &once));
    let breaker = table.take("breaker").and_then(|value| {
        templates::filled(&value, &once, "the key of the breaker is blank", "write breaker = \"restart\"")
    });
    let for_each = table.take("for_each").and_then(|value| undo::for_each(value, kind.as_ref(), &once));
    let retry = table.take("retry").and_then(|value| retry_of(value, kind.as_ref()));
    let timeout = table.take("timeout");
    let total_timeout = table.take("total_timeout");
    let on_failure = on_failure(table, place.is_finally);
    let probe = table.take("probe").map(|value| (value.place(), undo::probe(value, &each, around)));
    let irreversible = table.take("irreversible").map(|value| (value.place(), value.boolean()));
    let undo =
        table.take("undo").map(|value| (value.place(), undo::undo(value, &place.undoing(has_item), around)));
    let (Some(id), Some(kind)) = (id, kind) else {
        // Without a kind, the other keys are still read for their own problems.
        effect::alone(effect, timeout, total_timeout);
        return None;
    };
    let (effect, timeout) = (effect::of(effect.as_ref(), &kind), effect::timeout(&kind, timeout, around));
    let total_timeout = total_timeout.and_then(|value| total_of(&value, &kind, timeout));
    let (effect, timeout) = (effect?, timeout?);
    let claims = Claims { probe, irreversible, undo };
    let (probe, irreversible, undo) = claims.settle(&kind, effect, place.is_finally, table);
    Some(Step {
        title: title.unwrap_or_else(|| id.to_string()),
        after: place.order.after(place.index),
        retry: retry.unwrap_or_default(),
        is_finally: place.is_finally,
        id,
        kind,
        effect,
        when,
        timeout,
        total_timeout,
        on_failure,
        probe,
        breaker,
        irreversible,
        for_each,
        undo,
    })
}

fn on_failure(table: &mut Table<'_>, is_finally: bool) -> OnFailure {
    // What runs after the rollback cannot begin one.
    let unless_given = if is_finally { OnFailure::Stop } else { OnFailure::Rollback };
    let Some(value) = table.take("on_failure") else { return unless_given };
    let known = value.one_of(&[
        ("continue", OnFailure::Continue),
        ("stop", OnFailure::Stop),
        ("rollback", OnFailure::Rollback),
        ("pause", OnFailure::Pause),
    ]);
    if is_finally && known == Some(OnFailure::Rollback) {
        let message = "a step at the end runs after the rollback, so it cannot begin one";
        value.error(message, "write \"stop\", or \"continue\" if its failure does not matter");
    }
    known.unwrap_or(unless_given)
}

fn retry_of(value: Value<'_>, kind: Option<&Kind>) -> Option<Retry> {
    if let Some(kind) = kind.filter(|kind| effect::only_waits(kind)) {
        let message = format!("{} is not tried again", effect::named(kind.as_str()));
        value.error(message, "remove `retry`; how long it lasts is limited by its time");
    }
    value.table().map(|table| retry::read(table, kind))
}

fn total_of(value: &Value<'_>, kind: &Kind, timeout: Option<Duration>) -> Option<Duration> {
    if effect::only_waits(kind) {
        let message = format!("{} has one attempt", effect::named(kind.as_str()));
        value.error(message, "remove `total_timeout`");
        return None;
    }
    effect::total_timeout(value, timeout)
}

/// What a step says of its being undone, before it is known whether that can be.
struct Claims {
    probe: Option<(Place, Option<Kind>)>,
    irreversible: Option<(Place, Option<bool>)>,
    undo: Option<(Place, Option<Undo>)>,
}

impl Claims {
    /// Notes what contradicts each other. A silence is ended by its undo unless the file says otherwise.
    fn settle(
        self,
        kind: &Kind,
        effect: Effect,
        is_finally: bool,
        table: &Table<'_>,
    ) -> (Option<Kind>, bool, Option<Undo>) {
        let refuse = |place: &Place, message: String, help: &str| {
            table.problems().add(place.problem(Severity::Error, message, help));
        };
        let irreversible = self.irreversible.as_ref().filter(|(_, flag)| *flag == Some(true));
        if let Some((place, _)) = irreversible.filter(|_| self.undo.is_some()) {
            refuse(place, "the step is irreversible and has an undo".to_owned(), "remove one of them");
        }
        for (key, place) in [
            ("probe", self.probe.as_ref().map(|(place, _)| place)),
            ("undo", self.undo.as_ref().map(|(place, _)| place)),
        ] {
            let Some(place) = place.filter(|_| !effect.is_changing()) else { continue };
            let message = format!("the step changes nothing, so it needs no {key}");
            refuse(place, message, "remove it, or correct `effect`");
        }
        let never = "it runs at the end, after the rollback, so it is never undone".to_owned();
        for place in [self.undo.as_ref().map(|it| &it.0), irreversible.map(|it| &it.0)].into_iter().flatten()
        {
            if is_finally {
                refuse(place, never.clone(), "remove it");
            }
        }
        let irreversible = irreversible.is_some();
        let ends_itself = matches!(kind, Kind::Silence(_)) && !irreversible && !is_finally;
        let undo = match self.undo {
            Some((_, undo)) => undo,
            None => ends_itself.then(undo::expire_silence),
        };
        (self.probe.and_then(|(_, probe)| probe), irreversible, undo)
    }
}
