//! Which steps must be over before which: the keys `after` and `finally`, and what follows from them for
//! the names that templates can know.
//!
//! Must never: let steps wait for each other in a circle.

use super::steps::Draft;
use crate::document::{Problems, Value, nearest};
use crate::runbook::template::Turn;
use std::ops::Range;

/// The order of the steps, by their positions in the file.
#[derive(Default)]
pub(super) struct Order {
    /// For each step, those of its own sort it waits for.
    after: Vec<Vec<usize>>,
    /// For each step, whether each of the others is over when it begins.
    over: Vec<Vec<bool>>,
    is_finally: Vec<bool>,
}

/// What one step says of its place.
struct Claim {
    after: Vec<usize>,
    /// Where `after` stands, if it does.
    site: Option<(Range<usize>, String)>,
    /// Whether something in it is wrong, so that nothing else should be concluded from it.
    is_wrong: bool,
}

impl Order {
    /// Reads the claims of all steps.
    pub(super) fn read(drafts: &mut [Draft<'_>], problems: &Problems) -> Self {
        let values: Vec<_> = drafts.iter_mut().map(|draft| draft.after.take()).collect();
        let claims: Vec<Claim> =
            values.into_iter().enumerate().map(|(index, value)| claim(drafts, index, value)).collect();
        let is_finally = drafts.iter().map(|draft| draft.is_finally).collect();
        let mut order = Self { after: Vec::new(), over: Vec::new(), is_finally };
        let names: Vec<&str> = drafts.iter().map(Draft::name).collect();
        order.over = order.close(&claims, &names, problems);
        order.after = claims.into_iter().map(|claim| claim.after).collect();
        order
    }

    /// The steps that `index` waits for.
    pub(super) fn after(&self, index: usize) -> Vec<usize> {
        self.after[index].clone()
    }

    /// How the others stand while `index` runs.
    pub(super) fn running(&self, index: usize) -> Vec<Turn> {
        let turn = |other: usize| match other {
            _ if other == index => Turn::Own,
            _ if self.over[index][other] => Turn::Over,
            _ if self.over[other][index] => Turn::Later,
            _ => Turn::Unordered,
        };
        (0..self.over.len()).map(turn).collect()
    }

    /// How they stand while `index` is undone.
    pub(super) fn undoing(&self, index: usize) -> Vec<Turn> {
        let mut turns = self.running(index);
        turns[index] = Turn::Over;
        turns
    }

    /// How they stand at the verify.
    pub(super) fn verifying(&self) -> Vec<Turn> {
        self.is_finally.iter().map(|finally| if *finally { Turn::Later } else { Turn::Over }).collect()
    }

    /// What is over when each step begins. Notes every circle, and draws no further conclusions from it.
    fn close(&self, claims: &[Claim], names: &[&str], problems: &Problems) -> Vec<Vec<bool>> {
        let count = claims.len();
        let mut over = vec![Vec::new(); count];
        let mut left: Vec<usize> = (0..count).collect();
        while !left.is_empty() {
            let (ready, waiting): (Vec<usize>, Vec<usize>) = left
                .iter()
                .copied()
                .partition(|index| claims[*index].after.iter().all(|before| !over[*before].is_empty()));
            for index in &ready {
                over[*index] = self.row(*index, &claims[*index], &over);
            }
            left = waiting;
            if ready.is_empty() {
                let circle = circle(&left, claims, &over);
                note_circle(&circle, claims, names, problems);
                for index in circle {
                    over[index] = (0..count).map(|other| other != index).collect();
                    left.retain(|other| *other != index);
                }
            }
        }
        over
    }

    fn row(&self, index: usize, claim: &Claim, over: &[Vec<bool>]) -> Vec<bool> {
        if claim.is_wrong {
            return (0..over.len()).map(|other| other != index).collect();
        }
        // At the end, all that is not for the end is over.
        let mut row: Vec<bool> =
            self.is_finally.iter().map(|other| self.is_finally[index] && !other).collect();
        for before in &claim.after {
            row.iter_mut().zip(&over[*before]).for_each(|(mine, theirs)| *mine |= *theirs);
            row[*before] = true;
        }
        row
    }
}

fn claim(drafts: &[Draft<'_>], index: usize, value: Option<Value<'_>>) -> Claim {
    let Some(value) = value else {
        let is_finally = drafts[index].is_finally;
        let before = drafts[..index].iter().rposition(|draft| draft.is_finally == is_finally);
        return Claim { after: before.into_iter().collect(), site: None, is_wrong: false };
    };
    let site = Some((value.span(), value.path().to_owned()));
    let Some(items) = value.array() else { return Claim { after: Vec::new(), site, is_wrong: true } };
    let mut claim = Claim { after: Vec::new(), site, is_wrong: false };
    let mut seen = Vec::new();
    for item in items {
        match reference(drafts, index, &item, &seen) {
            Some(before) => {
                seen.push(before);
                // What is not for the end is over at the end, also when it never ran: nothing to wait for.
                if drafts[before].is_finally == drafts[index].is_finally {
                    claim.after.push(before);
                }
            }
            None => claim.is_wrong = true,
        }
    }
    claim.after.sort_unstable();
    claim
}

/// The step that one element of `after` names.
fn reference(drafts: &[Draft<'_>], index: usize, item: &Value<'_>, seen: &[usize]) -> Option<usize> {
    let name = item.string()?.value;
    let refuse = |message: String, help: String| {
        item.error(message, help);
        None
    };
    let Some(before) = drafts.iter().position(|draft| draft.name() == name && !name.is_empty()) else {
        let others = drafts.iter().enumerate().filter(|(other, _)| *other != index);
        let known: Vec<&str> =
            others.map(|(_, draft)| draft.name()).filter(|name| !name.is_empty()).collect();
        let help = nearest(&name, &known).map_or_else(
            || "name a step of this runbook by its id".to_owned(),
            |near| format!("did you mean {near:?}?"),
        );
        return refuse(format!("there is no step `{name}`"), help);
    };
    if before == index {
        return refuse(
            format!("the step `{name}` waits for itself"),
            "remove it; [] waits for none".to_owned(),
        );
    }
    if seen.contains(&before) {
        return refuse(format!("the step `{name}` is named twice"), "remove one".to_owned());
    }
    if drafts[before].is_finally && !drafts[index].is_finally {
        let message = format!("the step `{name}` runs at the end, after this one");
        return refuse(message, "remove it, or give this step finally = true as well".to_owned());
    }
    Some(before)
}

/// A circle among `left`, of which each waits for another one of them: every step in it waits for the next.
fn circle(left: &[usize], claims: &[Claim], over: &[Vec<bool>]) -> Vec<usize> {
    let mut way: Vec<usize> = left.first().copied().into_iter().collect();
    loop {
        let last = way.last().copied().unwrap_or_default();
        let Some(next) = claims[last].after.iter().copied().find(|before| over[*before].is_empty()) else {
            return way;
        };
        if let Some(at) = way.iter().position(|step| *step == next) {
            return way.split_off(at);
        }
        way.push(next);
    }
}

/// At the first step of the file that has a part in it by an `after` of its own.
fn note_circle(circle: &[usize], claims: &[Claim], names: &[&str], problems: &Problems) {
    let declared = (0..circle.len()).filter(|at| claims[circle[*at]].site.is_some());
    let Some(first) = declared.min_by_key(|at| circle[*at]) else { return };
    let Some((span, path)) = &claims[circle[first]].site else { return };
    let round = (0..=circle.len()).map(|at| names[circle[(first + at) % circle.len()]]);
    let round: Vec<&str> = round.collect();
    let message = format!("these steps wait for each other: {}", round.join(" -> "));
    let help = "take one of them out of an `after`; a step without `after` waits for the one before it";
    problems.error(span.clone(), path, message, help);
}
