//! What a runbook says of things outside of its file: other runbooks, and profiles of breakers.
//!
//! Pure: the caller brings the whole library. May import: `model`, `document`. Must never: read a file, or
//! let runbooks call each other in a circle.

use crate::document::{Place, Problem, Severity, nearest};
use crate::model::RunbookId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How deep runbooks may call each other; one that calls none has depth 0.
pub const MAX_DEPTH: usize = 8;

/// The profiles of breakers that need no section of the config.
pub const BREAKER_PROFILES: [&str; 3] = ["default", "aggressive", "tolerant"];

/// Where a file speaks of things outside of it.
#[derive(Debug, Clone, Default)]
pub struct Links {
    /// Of each `runbook` step the id it names; in the order of the file, as [`super::Runbook::calls`].
    pub calls: Vec<Place>,
    /// The key `breaker`, where there is one.
    pub breaker: Option<Place>,
}

/// The runbooks that each one calls, in the order of its steps.
pub type Calls = BTreeMap<RunbookId, Vec<RunbookId>>;

/// A call that cannot be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Whose step calls.
    pub caller: RunbookId,
    /// Which of the caller's calls.
    pub call: usize,
    /// What is wrong with it.
    pub why: Why,
}

/// What is wrong with a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// There is no such runbook; the one that may be meant.
    Unknown(RunbookId, Option<RunbookId>),
    /// It leads back to the caller, by these.
    Circle(Vec<RunbookId>),
    /// It leads too deep, by these.
    TooDeep(Vec<RunbookId>),
}

impl Fault {
    /// The fault as a problem of the caller's file.
    pub fn problem(&self, place: &Place) -> Problem {
        let (message, help) = match &self.why {
            Why::Unknown(id, near) => (
                format!("there is no runbook `{id}`"),
                near.as_ref().map_or_else(
                    || "name a file of the runbooks directory, without .toml".to_owned(),
                    |near| format!("did you mean {:?}?", near.as_str()),
                ),
            ),
            Why::Circle(way) => (
                format!("the runbook would call itself: {}", arrows(way)),
                "take one of these calls out".to_owned(),
            ),
            Why::TooDeep(way) => (
                format!("the runbooks call each other more than {MAX_DEPTH} deep: {}", arrows(way)),
                "put the steps of one into the one that calls it".to_owned(),
            ),
        };
        place.problem(Severity::Error, message, help)
    }
}

fn arrows(way: &[RunbookId]) -> String {
    way.iter().map(RunbookId::as_str).collect::<Vec<_>>().join(" -> ")
}

/// Every call of `calls` that cannot be made. `known` are runbooks that exist although their own calls are
/// not known, such as those whose file is broken.
pub fn faults(calls: &Calls, known: &BTreeSet<RunbookId>) -> Vec<Fault> {
    let circular = circular(calls);
    let depths = depths(calls, &circular);
    let mut faults = Vec::new();
    for (caller, callees) in calls {
        for (call, callee) in callees.iter().enumerate() {
            let why = if !calls.contains_key(callee) && !known.contains(callee) {
                Some(Why::Unknown(callee.clone(), near(callee, calls, known)))
            } else if circular.contains(caller) && circular.contains(callee) {
                way_back(calls, &circular, callee, caller).map(Why::Circle)
            } else {
                let depth = depths.get(callee).copied().unwrap_or(0);
                (depth >= MAX_DEPTH).then(|| Why::TooDeep(deepest(calls, &depths, caller, callee)))
            };
            faults.extend(why.map(|why| Fault { caller: caller.clone(), call, why }));
        }
    }
    faults
}

/// What is wrong with a runbook's profile `breaker`, when `known` are those of the config; the built-in ones
/// need not be among them.
pub fn unknown_breaker<'p>(
    breaker: &str,
    links: &Links,
    known: impl IntoIterator<Item = &'p str>,
) -> Option<Problem> {
    let known: Vec<&str> = BREAKER_PROFILES.into_iter().chain(known).collect();
    let place = links.breaker.as_ref().filter(|_| !known.contains(&breaker))?;
    let help = nearest(breaker, &known).map_or_else(
        || format!("one of: {}; or write [breakers.{breaker}] into the config", known.join(", ")),
        |near| format!("did you mean {near:?}?"),
    );
    Some(place.problem(Severity::Error, format!("there is no breaker profile `{breaker}`"), help))
}

fn near(callee: &RunbookId, calls: &Calls, known: &BTreeSet<RunbookId>) -> Option<RunbookId> {
    let ids: Vec<&str> = calls.keys().chain(known).map(RunbookId::as_str).collect();
    nearest(callee.as_str(), &ids).and_then(|near| RunbookId::new(near).ok())
}

/// What is left when all that calls nothing, or is called by nothing, is taken away again and again: the
/// circles, and what lies between two of them.
fn circular(calls: &Calls) -> BTreeSet<RunbookId> {
    let mut left: BTreeSet<RunbookId> = calls.keys().cloned().collect();
    loop {
        let called: BTreeSet<&RunbookId> = left.iter().flat_map(|id| &calls[id]).collect();
        let stays =
            |id: &&RunbookId| called.contains(id) && calls[*id].iter().any(|callee| left.contains(callee));
        let next: BTreeSet<RunbookId> = left.iter().filter(stays).cloned().collect();
        if next.len() == left.len() {
            return next;
        }
        left = next;
    }
}

/// The shortest way from `to` by calls from `from` on: `to -> from -> … -> to`; `None` where none leads back.
fn way_back(
    calls: &Calls,
    circular: &BTreeSet<RunbookId>,
    from: &RunbookId,
    to: &RunbookId,
) -> Option<Vec<RunbookId>> {
    let mut before: BTreeMap<&RunbookId, &RunbookId> = BTreeMap::from([(from, to)]);
    let mut queue = VecDeque::from([from]);
    while let Some(id) = queue.pop_front() {
        if id == to {
            let mut way = vec![to.clone()];
            let mut at = to;
            while let Some(previous) = before.get(at).copied() {
                way.push(previous.clone());
                if previous == to {
                    break;
                }
                at = previous;
            }
            way.reverse();
            return Some(way);
        }
        for callee in calls[id].iter().filter(|callee| circular.contains(*callee)) {
            if !before.contains_key(callee) {
                before.insert(callee, id);
                queue.push_back(callee);
            }
        }
    }
    None
}

/// How deep each one calls, for those whose calls come to an end.
fn depths<'c>(calls: &'c Calls, circular: &BTreeSet<RunbookId>) -> BTreeMap<&'c RunbookId, usize> {
    let mut depths: BTreeMap<&RunbookId, usize> = BTreeMap::new();
    loop {
        let mut found = Vec::new();
        for (id, callees) in calls.iter().filter(|(id, _)| !circular.contains(*id)) {
            if depths.contains_key(id) {
                continue;
            }
            // What is not in the library, or is in a circle, is a fault of its own.
            let counted =
                callees.iter().filter(|callee| calls.contains_key(*callee) && !circular.contains(*callee));
            let inner: Option<Vec<usize>> = counted.map(|callee| depths.get(callee).copied()).collect();
            let Some(inner) = inner else { continue };
            found.push((
                id,
                inner.into_iter().max().map_or(usize::from(!callees.is_empty()), |most| most + 1),
            ));
        }
        if found.is_empty() {
            return depths;
        }
        depths.extend(found);
    }
}

/// The way that goes deepest from `caller` by `callee`, up to one call more than is allowed.
fn deepest(
    calls: &Calls,
    depths: &BTreeMap<&RunbookId, usize>,
    caller: &RunbookId,
    callee: &RunbookId,
) -> Vec<RunbookId> {
    let mut way = vec![caller.clone(), callee.clone()];
    while way.len() < MAX_DEPTH + 2 {
        let callees = way.last().and_then(|last| calls.get(last)).into_iter().flatten();
        let next = callees.max_by_key(|callee| depths.get(callee).copied().unwrap_or(0));
        let Some(next) = next.cloned() else { break };
        way.push(next);
    }
    way
}

#[cfg(test)]
mod tests;
