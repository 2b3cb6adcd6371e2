//! Who is told when: names become levels, levels channels, and each channel a message with its own tries.
//!
//! Every name is told. Within a level the channels stand in for each other: the next one is asked when the one before
//! refused for good or failed a few times, and the first that accepts is enough.

use super::entry::{Closed, Delivery, DeliveryState, Escalation, Standing};
use crate::model::{Timestamp, after};
use std::collections::BTreeMap;
use std::time::Duration;

/// After so many failures the next channel of the level is asked too.
const STAND_IN_AFTER: u32 = 3;
/// The first pause between two tries; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// The longest a far side can put a try off.
const LONGEST_ASKED: Duration = Duration::from_secs(3600);
/// How long a message is tried.
pub const GIVE_UP: Duration = Duration::from_secs(24 * 3600);
/// How often taking a message back is tried.
const RESOLVE_TRIES: u32 = 12;
/// The most messages of one escalation.
const MAX_DELIVERIES: usize = 32;

/// One level of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level {
    /// How long after the escalation, while nobody has taken it.
    pub after: Duration,
    /// Notifiers, each standing in for the one before.
    pub to: Vec<String>,
}

/// Who there is to be told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directory {
    /// The notifiers, and whether what they were told can be taken back.
    pub notifiers: BTreeMap<String, bool>,
    /// The policies by name.
    pub policies: BTreeMap<String, Vec<Level>>,
    /// Whom the config names.
    pub escalate_to: Vec<String>,
}

impl Directory {
    /// The levels behind `name`; a notifier is one level of one channel.
    pub fn levels(&self, name: &str) -> Option<Vec<Level>> {
        if self.notifiers.contains_key(name) {
            return Some(vec![Level { after: Duration::ZERO, to: vec![name.to_owned()] }]);
        }
        self.policies.get(name).cloned()
    }
}

/// The messages of an escalation. A name that leads nowhere is kept as a failed one, so that it shows.
pub fn plan(escalation: &Escalation, directory: &Directory) -> Vec<Delivery> {
    let names = escalation.to.as_ref().unwrap_or(&directory.escalate_to);
    let mut deliveries = Vec::new();
    for name in names {
        let Some(levels) = directory.levels(name) else {
            let error = Some("the config has no notifier and no policy of this name".to_owned());
            let due = escalation.due;
            let lost = Delivery { state: DeliveryState::Failed, error, ..delivery(name, 1, name, due) };
            deliveries.push(lost);
            continue;
        };
        for (level, number) in levels.iter().zip(1..) {
            let due = after(escalation.due, level.after);
            deliveries.extend(level.to.iter().map(|notifier| delivery(name, number, notifier, due)));
        }
    }
    deliveries.truncate(MAX_DELIVERIES);
    deliveries
}

fn delivery(name: &str, level: u32, notifier: &str, due: Timestamp) -> Delivery {
    Delivery {
        name: name.to_owned(),
        level,
        notifier: notifier.to_owned(),
        due,
        state: DeliveryState::Waiting,
        attempts: 0,
        next: due,
        at: due,
        error: None,
        resolving: 0,
    }
}

/// What is to be done with one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Send it.
    Send(usize),
    /// Take it back.
    Resolve(usize),
}

/// What is to be done now, and when to look again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Due {
    /// What is to be done now.
    pub acts: Vec<Act>,
    /// When something is due that is not yet.
    pub wake: Option<Timestamp>,
}

impl Due {
    /// Whether nothing will ever be due again by itself.
    pub fn is_nothing(&self) -> bool {
        self.acts.is_empty() && self.wake.is_none()
    }

    fn at(&mut self, at: Timestamp, act: Act, now: Timestamp) {
        if now >= at {
            self.acts.push(act);
        } else {
            self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
        }
    }
}

/// What is due of a planned escalation at `now`.
pub fn due(escalation: &Escalation, directory: &Directory, now: Timestamp) -> Due {
    let mut due = Due::default();
    let deliveries = escalation.deliveries();
    for (index, delivery) in deliveries.iter().enumerate() {
        let can_resolve = directory.notifiers.get(&delivery.notifier).copied().unwrap_or(false);
        match delivery.state {
            DeliveryState::Waiting if escalation.is_open() => {
                if let Some(at) = opens(deliveries, index) {
                    // Only a try puts the next one off.
                    let at = if delivery.attempts == 0 { at } else { at.max(delivery.next) };
                    due.at(at, Act::Send(index), now);
                }
            }
            DeliveryState::Sent
                if !escalation.is_open() && can_resolve && delivery.resolving < RESOLVE_TRIES =>
            {
                due.at(delivery.next, Act::Resolve(index), now);
            }
            _ => {}
        }
    }
    due
}

/// From when on the message at `index` may be sent; `None` while another one is still asked in its place.
fn opens(deliveries: &[Delivery], index: usize) -> Option<Timestamp> {
    let delivery = &deliveries[index];
    let same = |other: &&Delivery| other.name == delivery.name && other.level == delivery.level;
    if let Some(before) = deliveries[..index].last().filter(same) {
        let stands_in = before.state == DeliveryState::Failed || before.attempts >= STAND_IN_AFTER;
        return stands_in.then_some(Timestamp::UNIX_EPOCH);
    }
    // Where a whole level can be told nothing, the next one need not wait.
    let level_before = |other: &&Delivery| other.name == delivery.name && other.level + 1 == delivery.level;
    let mut earlier = deliveries[..index].iter().filter(level_before).peekable();
    let lost = earlier.peek().is_some() && earlier.all(|other| other.state == DeliveryState::Failed);
    Some(if lost { Timestamp::UNIX_EPOCH } else { delivery.due })
}

/// Why a try failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// A sentence, without a secret.
    pub why: String,
    /// Whether another try would be answered the same.
    pub permanent: bool,
    /// How long the far side asks to be left alone.
    pub retry_after: Option<Duration>,
    /// The status of the answer, where there was one.
    pub status: Option<u16>,
}

/// Notes how a try ended. `now` is the end of it.
pub fn told(escalation: &mut Escalation, act: Act, result: &Result<(), Failure>, now: Timestamp) {
    let (Act::Send(index) | Act::Resolve(index)) = act;
    let seed = format!("{}{index}", escalation.id);
    let deliveries = escalation.deliveries.get_or_insert_default();
    let Some(delivery) = deliveries.get_mut(index) else { return };
    delivery.error = result.as_ref().err().map(|failure| failure.why.clone());
    let is_resolve = matches!(act, Act::Resolve(_));
    let tries = if is_resolve { &mut delivery.resolving } else { &mut delivery.attempts };
    *tries += 1;
    let tries = *tries;
    let state = match result {
        Ok(()) if is_resolve => Some(DeliveryState::Resolved),
        // Also where it was not wanted any more while it was on its way: then it is taken back.
        Ok(()) => Some(DeliveryState::Sent),
        Err(failure) if is_resolve => {
            if failure.permanent {
                delivery.resolving = RESOLVE_TRIES;
            }
            None
        }
        Err(_) if delivery.state != DeliveryState::Waiting => None,
        Err(failure) => {
            let over = failure.permanent || now >= after(delivery.due, GIVE_UP);
            over.then_some(DeliveryState::Failed)
        }
    };
    delivery.next = now;
    if let Err(failure) = result {
        delivery.next = after(now, pause(tries, failure.retry_after, &seed));
    }
    let Some(state) = state else { return };
    (delivery.state, delivery.at) = (state, now);
    if state == DeliveryState::Sent {
        let (name, level) = (delivery.name.clone(), delivery.level);
        for other in deliveries.iter_mut().filter(|other| other.name == name && other.level == level) {
            cancel(other, now);
        }
    }
}

fn cancel(delivery: &mut Delivery, now: Timestamp) {
    if delivery.state == DeliveryState::Waiting {
        (delivery.state, delivery.at) = (DeliveryState::Cancelled, now);
    }
}

/// Ends an escalation: nobody else is told, and what can be taken back is. False when it was ended before.
pub fn close(escalation: &mut Escalation, standing: Standing, closed: Closed) -> bool {
    if !escalation.is_open() {
        return false;
    }
    let now = closed.at;
    escalation.standing = standing;
    escalation.closed = Some(closed);
    for delivery in escalation.deliveries.iter_mut().flatten() {
        cancel(delivery, now);
        delivery.next = now;
    }
    true
}

/// Doubling with jitter, and never sooner than the far side asks.
fn pause(tries: u32, asked: Option<Duration>, seed: &str) -> Duration {
    let full = FIRST_PAUSE.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(LONGEST_PAUSE);
    // FNV: the same try waits as long after every restart.
    let hash = seed
        .bytes()
        .chain(tries.to_be_bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    let jittered = full.mul_f64(0.5 + 0.5 * ((hash >> 11) as f64 / (1_u64 << 53) as f64));
    jittered.max(asked.unwrap_or_default().min(LONGEST_ASKED))
}
