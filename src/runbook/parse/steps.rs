//! The list `[[steps]]`: what every kind of step has in common.
//!
//! An id is `[A-Za-z0-9_-]{1,64}`. One that is a plain name is written `steps.ID` in templates, any
//! other one `steps["ID"]`.

use super::{DAY, MINUTE, head, kinds, templates};
use crate::document::{Table, Value};
use crate::model::{Effect, StepId};
use crate::runbook::definition::{Kind, OnFailure, Retry, Step};
use crate::runbook::template::Scope;
use std::ops::Range;
use std::time::Duration;

const SHORTEST: Duration = Duration::from_millis(10);

/// A step of which only the id was read, because templates of other steps may name it.
pub(super) struct Draft<'d> {
    id: Option<StepId>,
    table: Table<'d>,
}

impl Draft<'_> {
    /// The id; empty where it cannot be read.
    pub(super) fn name(&self) -> &str {
        self.id.as_ref().map_or("", StepId::as_str)
    }
}

/// Reads the ids, which must differ.
pub(super) fn drafts<'d>(root: &mut Table<'d>) -> Vec<Draft<'d>> {
    let help = "write at least one [[steps]]";
    let Some(value) = root.require("steps", help) else { return Vec::new() };
    let (site, problems) = (value.span(), value.problems());
    let Some(items) = value.array() else { return Vec::new() };
    if items.is_empty() {
        problems.error(site, "steps", "a runbook needs a step", help);
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
        drafts.push(Draft { id, table });
    }
    drafts
}

/// Reads the rest of every step; afterwards `scope` knows them all.
pub(super) fn read(drafts: Vec<Draft<'_>>, scope: &mut Scope, has_target: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut targetless = has_target;
    for (index, Draft { id, mut table }) in drafts.into_iter().enumerate() {
        scope.ended = Some(index);
        let site = table.site();
        let (path, problems) = (table.path().to_owned(), table.problems());
        let step = step(id, &mut table, scope);
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
    scope.ended = Some(scope.steps.len());
    steps
}

fn step(id: Option<StepId>, table: &mut Table<'_>, scope: &Scope) -> Option<Step> {
    let title = table.take("title").and_then(|value| head::one_line(&value));
    let kind = kinds::read(table, scope);
    let effect = table.take("effect");
    let when = table.take("when").and_then(|value| templates::expression(&value, scope));
    let timeout = table.take("timeout");
    let on_failure = table.take("on_failure").and_then(|value| {
        value.one_of(&[
            ("continue", OnFailure::Continue),
            ("stop", OnFailure::Stop),
            ("rollback", OnFailure::Rollback),
        ])
    });
    let effect_of = |kind: &Kind| match &effect {
        Some(value) => declared_effect(value, kind),
        None => Some(default_effect(kind)),
    };
    // Without a kind, the other keys are still read for their own problems.
    let timeout = timeout.as_ref().map(|value| (value.duration(SHORTEST..=DAY), value.span()));
    let (id, kind) = (id?, kind?);
    Some(Step {
        title: title.unwrap_or_else(|| id.to_string()),
        effect: effect_of(&kind)?,
        timeout: timeout_of(&kind, timeout, table)?,
        id,
        kind,
        when,
        after: scope.ended.and_then(|index| index.checked_sub(1)).into_iter().collect(),
        total_timeout: None,
        retry: Retry::default(),
        on_failure: on_failure.unwrap_or(OnFailure::Rollback),
        probe: None,
        breaker: None,
        irreversible: false,
        is_finally: false,
        for_each: None,
        undo: None,
    })
}

/// The time of one attempt. A wait without one may last as long as it says, and a minute.
fn timeout_of(
    kind: &Kind,
    given: Option<(Option<Duration>, Range<usize>)>,
    table: &Table<'_>,
) -> Option<Duration> {
    let wait = match kind {
        Kind::Wait { duration } => *duration,
        _ => Duration::ZERO,
    };
    let Some((timeout, span)) = given else {
        return Some(if wait.is_zero() { MINUTE } else { wait + MINUTE });
    };
    let timeout = timeout?;
    if timeout <= wait {
        let path = format!("{}.timeout", table.path());
        let message = "the wait is as long as its timeout, so it would always time out";
        table.problems().error(span, &path, message, "make the timeout longer, or remove it");
    }
    Some(timeout)
}

fn default_effect(kind: &Kind) -> Effect {
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
        Kind::Command(_) | Kind::Script(_) | Kind::Ssh(_) => Effect::AtMostOnce,
    }
}

/// What the author says. An author may know that a program only looks, but a step that never changes
/// anything cannot be said to.
fn declared_effect(value: &Value<'_>, kind: &Kind) -> Option<Effect> {
    let effect = value.one_of(&Effect::ALL.map(|effect| (effect.as_str(), effect)))?;
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
        let message = format!("a {} changes nothing", kind.as_str());
        value.error(message, "remove `effect`, or use a command for what changes something");
        return None;
    }
    Some(effect)
}
