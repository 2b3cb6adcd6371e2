//! A step that is done once for each item of a list, some of them at once.

use super::work::Work;
use super::{Look, Next, view};
use crate::journal::Event;
use crate::model::{Part, StepStatus};
use crate::runbook::OnFailure;

impl Look<'_> {
    /// What comes next for the step at `index`, which has a list.
    pub(super) fn items(&self, index: usize) -> Option<Next> {
        let (step, seen) = (self.step(index), self.seen(index));
        let Some(items) = &seen.items else {
            return match view::items(self.runbook, self.state, index) {
                Ok(items) => Some(Next::Record(Event::ItemsListed { step: self.id(index), items })),
                Err(why) => self.end(index, StepStatus::Failed, None, Some(why)),
            };
        };
        let concurrency = step.for_each.as_ref().map_or(1, |for_each| for_each.concurrency);
        // Once one has failed no further one is begun, unless a failure is nothing to stop for.
        let has_failed = seen.ended.iter().any(|(_, (status, _))| *status != StepStatus::Succeeded);
        let may_begin = !has_failed || step.on_failure == OnFailure::Continue;
        let mut in_hand = 0;
        for position in 0..items.len() {
            let part = Part::item(position);
            if seen.ended.contains_key(&part) {
                continue;
            }
            let is_begun = seen.begun.iter().any(|(_, begun)| *begun == part);
            if !is_begun && (!may_begin || in_hand >= concurrency) {
                continue;
            }
            in_hand += 1;
            match self.work(index, part) {
                Work::Over(status, error) => {
                    let step = self.id(index);
                    return Some(Next::Record(Event::PartFinished { step, part, status, error }));
                }
                work => match self.carry_on(index, work) {
                    None => {}
                    next => return next,
                },
            }
        }
        if in_hand > 0 {
            return None;
        }
        let (status, error) = self.sum(index, items);
        self.end(index, status, None, error)
    }

    /// What the items come to together.
    pub(super) fn sum(&self, index: usize, items: &[String]) -> (StepStatus, Option<String>) {
        let seen = self.seen(index);
        let failed: Vec<(usize, StepStatus)> = (0..items.len())
            .filter_map(|position| Some((position, seen.ended.get(&Part::item(position))?.0)))
            .filter(|(_, status)| *status != StepStatus::Succeeded)
            .collect();
        let Some((first, first_status)) = failed.first() else { return (StepStatus::Succeeded, None) };
        // An unknown outcome outweighs a known one: a person must look.
        let unknown = failed.iter().any(|(_, status)| *status == StepStatus::Unknown);
        let status = if unknown { StepStatus::Unknown } else { *first_status };
        let open =
            items.len() - seen.ended.keys().filter(|part| part.role == crate::model::Role::Main).count();
        let rest = if open > 0 { format!("; {open} were not tried") } else { String::new() };
        let why =
            format!("{} of {} items failed, first {:?}{rest}", failed.len(), items.len(), items[*first]);
        (status, Some(why))
    }
}
