//! What holds automation back: no window of any cap holds more than it may, whatever crashed in between; nothing starts
//! in a freeze; and what a gate denied late has changed nothing.
//!
//! May import: what `check` may. Must never: count as the guards themselves do.

use super::Case;
use crate::admit::late::LATE;
use crate::engine::simulation::life::Stage;
use crate::engine::simulation::time::{Moment, moment_of};
use crate::guard::Limit;
use crate::journal::TriggerKind;
use crate::model::ExecutionStatus;
use std::collections::{BTreeMap, BTreeSet};

/// What is wrong between all of `cases`.
pub(super) fn check(stage: &Stage, cases: &[Case<'_>]) -> Vec<String> {
    let mut wrong = nothing_starts_in_a_freeze(stage, cases);
    wrong.extend(what_is_denied_late_changed_nothing(cases));
    let settings = &stage.plan.guards.settings;
    let mut by_target: BTreeMap<_, Vec<&Case<'_>>> = BTreeMap::new();
    let mut by_runbook: BTreeMap<_, Vec<&Case<'_>>> = BTreeMap::new();
    for case in cases.iter().filter(|case| counts(case)) {
        let created = &case.state.created;
        by_target.entry((&created.runbook, &created.target)).or_default().push(case);
        by_runbook.entry(&created.runbook).or_default().push(case);
    }
    for cases in by_target.values_mut() {
        cases.sort_by_key(|case| asked(case));
        for limit in &settings.max_runs {
            wrong.extend(too_many_runs(cases, *limit));
        }
        if let Some(cooldown) = settings.cooldown {
            let millis = Moment::try_from(cooldown.as_millis()).unwrap_or(Moment::MAX);
            wrong.extend(too_soon(cases, millis));
        }
    }
    for cases in by_runbook.values_mut() {
        cases.sort_by_key(|case| asked(case));
        if let Some(limit) = settings.max_targets {
            wrong.extend(too_many_targets(cases, limit));
        }
    }
    wrong.extend(settings.max_concurrent.map(|limit| too_many_at_once(cases, limit)).unwrap_or_default());
    wrong
}

/// Whether it is one that caps count: an alert's, that did something.
fn counts(case: &Case<'_>) -> bool {
    case.state.created.is_automatic() && case.state.started_at.is_some() && !is_denied_late(case)
}

fn is_denied_late(case: &Case<'_>) -> bool {
    case.state.status == ExecutionStatus::Rejected
        && case.state.reason.is_some_and(|reason| LATE.contains(&reason))
}

/// When its alert was decided: that is when it counts.
fn asked(case: &Case<'_>) -> Moment {
    moment_of(case.journal[0].at)
}

fn within(limit: Limit) -> Moment {
    Moment::try_from(limit.within.as_millis()).unwrap_or(Moment::MAX)
}

fn too_many_runs(cases: &[&Case<'_>], limit: Limit) -> Vec<String> {
    let most = usize::try_from(limit.count).unwrap();
    let windows = cases.windows(most + 1);
    let over = windows.filter(|window| asked(window[most]) - asked(window[0]) < within(limit));
    over.map(|window| format!("{} is one more than {limit:?} since {}", window[most].id, window[0].id))
        .collect()
}

fn too_soon(cases: &[&Case<'_>], cooldown: Moment) -> Vec<String> {
    let soon = cases.windows(2).filter(|pair| {
        pair[0].state.finished_at.is_none_or(|end| asked(pair[1]) < moment_of(end) + cooldown)
    });
    soon.map(|pair| format!("{} was begun too soon after {}", pair[1].id, pair[0].id)).collect()
}

fn too_many_targets(cases: &[&Case<'_>], limit: Limit) -> Vec<String> {
    let most = usize::try_from(limit.count).unwrap();
    let over = cases.iter().filter(|last| {
        let in_window = cases
            .iter()
            .filter(|case| asked(case) <= asked(last) && asked(last) - asked(case) < within(limit));
        let targets: BTreeSet<_> = in_window.map(|case| &case.state.created.target).collect();
        targets.len() > most
    });
    over.map(|case| format!("{} is on one more target than {limit:?}", case.id)).collect()
}

/// Whoever asked for them, but those that are steps of others.
fn too_many_at_once(cases: &[Case<'_>], limit: u32) -> Vec<String> {
    let roots = || cases.iter().filter(|case| case.state.created.parent.is_none());
    let over = roots().filter(|last| {
        let Some(begun) = last.started() else { return false };
        let going = roots().filter(|case| {
            let over = case.state.finished_at.map(moment_of);
            case.runbook.id == last.runbook.id
                && case.started().is_some_and(|started| started <= begun)
                && over.is_none_or(|over| over > begun)
        });
        going.count() > usize::try_from(limit).unwrap()
    });
    over.map(|case| format!("{} is one more at once than {limit}", case.id)).collect()
}

/// I6, as far as freezes go.
fn nothing_starts_in_a_freeze(stage: &Stage, cases: &[Case<'_>]) -> Vec<String> {
    let mut wrong = Vec::new();
    for case in cases.iter().filter(|case| case.state.created.parent.is_none()) {
        let Some(started) = case.started() else { continue };
        let holds = |allow_manual: bool| match case.state.created.trigger.kind {
            TriggerKind::Alert | TriggerKind::Schedule => true,
            TriggerKind::Manual | TriggerKind::Retry => !allow_manual,
            TriggerKind::Rollback | TriggerKind::Runbook => false,
        };
        let freezes = stage.plan.guards.freezes.iter();
        let frozen = freezes
            .filter(|(from, until, allow_manual)| holds(*allow_manual) && (*from..*until).contains(&started));
        wrong.extend(frozen.map(|freeze| format!("{} started at {started}, in {freeze:?}", case.id)));
    }
    wrong
}

fn what_is_denied_late_changed_nothing(cases: &[Case<'_>]) -> Vec<String> {
    let acted = |case: &&Case<'_>| {
        let changes =
            |step: usize| case.state.effect(step).is_changing() && !case.runbook.steps[step].is_finally;
        is_denied_late(case) && case.runs.iter().any(|run| changes(case.index(&run.act.step)))
    };
    cases.iter().filter(acted).map(|case| format!("{} acted and was denied", case.id)).collect()
}
