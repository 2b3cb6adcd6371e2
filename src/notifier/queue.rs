//! What could be sent now and waits for a place: a line for each channel, the most urgent first.
//!
//! Pure. A channel has [`MAX_FLYING_OF_ONE`] places of its own, so one that hangs holds up nobody else. May import:
//! `report`. Must never: hold a message, only which one it is; what is sent is read again from the store.

use crate::report::{Act, Escalation, EscalationId, Urgency};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// How many tries are under way at once through one channel.
pub(super) const MAX_FLYING_OF_ONE: usize = 4;

/// One try that may be made.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Job {
    pub(super) id: EscalationId,
    pub(super) act: Act,
    pub(super) notifier: String,
}

/// Taking back comes after telling; then the more urgent, then the older.
type Rank = (bool, Urgency, EscalationId, usize);

#[derive(Debug, Default)]
struct Line {
    waiting: BTreeSet<Rank>,
    flying: usize,
}

/// All lines.
#[derive(Debug, Default)]
pub(super) struct Queue {
    lines: BTreeMap<String, Line>,
    /// Where each escalation stands in a line.
    places: HashMap<EscalationId, Vec<(String, Rank)>>,
    flying: HashSet<(EscalationId, usize)>,
}

impl Queue {
    /// Puts what is due of `escalation` into the lines, in place of what stood there of it. A try under way stays one.
    pub(super) fn put(&mut self, escalation: &Escalation, acts: &[Act]) {
        self.forget(&escalation.id);
        for act in acts {
            let (is_resolve, index) = match act {
                Act::Send(index) => (false, *index),
                Act::Resolve(index) => (true, *index),
            };
            let Some(delivery) = escalation.deliveries().get(index) else { continue };
            if self.flying.contains(&(escalation.id.clone(), index)) {
                continue;
            }
            let rank = (is_resolve, escalation.urgency(), escalation.id.clone(), index);
            self.lines.entry(delivery.notifier.clone()).or_default().waiting.insert(rank.clone());
            self.places.entry(escalation.id.clone()).or_default().push((delivery.notifier.clone(), rank));
        }
    }

    /// Takes what waits of an escalation out of the lines.
    pub(super) fn forget(&mut self, id: &EscalationId) {
        for (notifier, rank) in self.places.remove(id).unwrap_or_default() {
            if let Some(line) = self.lines.get_mut(&notifier) {
                line.waiting.remove(&rank);
            }
        }
    }

    /// The most urgent try for which its channel has a place; it is under way from now on.
    pub(super) fn next(&mut self) -> Option<Job> {
        let free = self.lines.iter_mut().filter(|(_, line)| line.flying < MAX_FLYING_OF_ONE);
        let first = free.filter_map(|(notifier, line)| Some((line.waiting.first()?.clone(), notifier, line)));
        let (rank, notifier, line) = first.min_by(|(one, ..), (other, ..)| one.cmp(other))?;
        line.waiting.remove(&rank);
        line.flying += 1;
        let notifier = notifier.clone();
        let (is_resolve, _, id, index) = rank.clone();
        self.flying.insert((id.clone(), index));
        if let Some(places) = self.places.get_mut(&id) {
            places.retain(|(_, known)| *known != rank);
            if places.is_empty() {
                self.places.remove(&id);
            }
        }
        let act = if is_resolve { Act::Resolve(index) } else { Act::Send(index) };
        Some(Job { id, act, notifier })
    }

    /// The try is over, whatever became of it.
    pub(super) fn landed(&mut self, job: &Job) {
        let (Act::Send(index) | Act::Resolve(index)) = job.act;
        if self.flying.remove(&(job.id.clone(), index))
            && let Some(line) = self.lines.get_mut(&job.notifier)
        {
            line.flying = line.flying.saturating_sub(1);
        }
    }

    /// Whether a try of this escalation is under way.
    pub(super) fn is_flying(&self, id: &EscalationId) -> bool {
        self.flying.iter().any(|(flying, _)| flying == id)
    }

    /// Empties the line of a channel that wants to be left alone; whose messages stood there.
    pub(super) fn clear(&mut self, notifier: &str) -> Vec<EscalationId> {
        let Some(line) = self.lines.get_mut(notifier) else { return Vec::new() };
        let ids: BTreeSet<EscalationId> =
            std::mem::take(&mut line.waiting).into_iter().map(|(_, _, id, _)| id).collect();
        ids.iter().for_each(|id| self.forget(id));
        ids.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ExecutionStatus, Timestamp};
    use crate::report::{Directory, plan};
    use crate::store::records::outbox::tests::failed;

    fn job(id: &str, notifier: &str, is_damage: bool) -> Escalation {
        let names = ["a", "b"].map(|name| (name.to_owned(), true));
        let directory = Directory { notifiers: names.into(), ..Directory::default() };
        let mut escalation = failed("r", "t", Timestamp::UNIX_EPOCH);
        escalation.id = EscalationId::of(Timestamp::UNIX_EPOCH, id);
        escalation.to = Some(vec![notifier.to_owned()]);
        if is_damage {
            escalation.status = Some(ExecutionStatus::RollbackFailed);
        }
        escalation.deliveries = Some(plan(&escalation, &directory));
        escalation
    }

    #[test]
    fn damage_goes_first_a_full_channel_holds_up_no_other_and_taking_back_comes_last() {
        let mut queue = Queue::default();
        for number in 0..6 {
            queue.put(&job(&number.to_string(), "a", false), &[Act::Send(0)]);
        }
        let (back, damage) = (job("back", "a", true), job("damage", "a", true));
        queue.put(&back, &[Act::Resolve(0)]);
        queue.put(&damage, &[Act::Send(0)]);
        queue.put(&damage, &[Act::Send(0)]);
        queue.put(&job("other", "b", false), &[Act::Send(0)]);
        let first = queue.next().unwrap();
        assert_eq!((&first.id, first.act), (&damage.id, Act::Send(0)));
        let mut flying: Vec<Job> = std::iter::from_fn(|| queue.next()).collect();
        assert_eq!(flying.len(), MAX_FLYING_OF_ONE - 1 + 1, "the rest of one channel, and the other one's");
        assert!(flying.iter().any(|job| job.notifier == "b"));
        flying.push(first);
        let mut last = None;
        while let Some(landed) = flying.pop() {
            queue.landed(&landed);
            while let Some(next) = queue.next() {
                last = Some(next.clone());
                flying.push(next);
            }
        }
        assert_eq!(last.map(|job| (job.id, job.act)), Some((back.id, Act::Resolve(0))));
    }

    #[test]
    fn what_is_under_way_is_not_begun_again_and_a_line_can_be_emptied() {
        let mut queue = Queue::default();
        let one = job("one", "a", false);
        queue.put(&one, &[Act::Send(0)]);
        let begun = queue.next().unwrap();
        queue.put(&one, &[Act::Send(0)]);
        assert_eq!(queue.next(), None);
        assert!(queue.is_flying(&one.id));
        queue.landed(&begun);
        queue.landed(&begun);
        queue.put(&one, &[Act::Send(0)]);
        assert_eq!(queue.clear("a"), vec![one.id.clone()]);
        assert_eq!((queue.next(), queue.is_flying(&one.id)), (None, false));
    }
}
