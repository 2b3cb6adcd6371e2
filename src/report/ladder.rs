//! Who is told when: names become levels, levels channels, and each channel a message with its own tries.
//!
//! Every name is told. Within a level the channels stand in for each other: the next one is asked when the one before
//! refused for good or failed a few times, and the first that accepts is enough.

use super::entry::{Cause, Closed, Delivery, DeliveryState, Escalation, Standing, Totals, WINDOW};
use super::quiet::{LONGEST_ASKED, Quiet};
use crate::model::{MAX_MESSAGES, Timestamp, after};
use std::collections::BTreeMap;
use std::time::Duration;

/// After so many failures the next channel of the level is asked too.
const STAND_IN_AFTER: u32 = 3;
/// The first pause between two tries; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// A channel that wants to be left alone for longer is stood in for at once.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a message is tried.
pub const GIVE_UP: Duration = Duration::from_secs(24 * 3600);
/// How often taking a message back is tried.
const RESOLVE_TRIES: u32 = 12;
/// When an escalation of alerts that were never heard of again is over: behind every level.
const FORGOTTEN: Duration = Duration::from_secs(8 * 24 * 3600);

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

/// One level of one name, as it is told: the first channel in any case, each further one in place of the one before.
struct Group {
    name: String,
    level: u32,
    due: Timestamp,
    to: Vec<String>,
}

/// The messages of an escalation, none twice at one time. A name that leads nowhere, and what is too much, is kept as a
/// failed one, so that it shows.
pub fn plan(escalation: &Escalation, directory: &Directory) -> Vec<Delivery> {
    let names = escalation.to.as_ref().unwrap_or(&directory.escalate_to);
    let lost = |name: &str, why: String| Delivery {
        state: DeliveryState::Failed,
        error: Some(why),
        ..delivery(name, 1, name, escalation.due)
    };
    let mut deliveries = Vec::new();
    let mut groups = Vec::new();
    for name in names {
        let Some(levels) = directory.levels(name) else {
            deliveries.push(lost(name, "the config has no notifier and no policy of this name".to_owned()));
            continue;
        };
        groups.extend(levels.into_iter().zip(1..).map(|(level, number)| Group {
            name: name.clone(),
            level: number,
            due: after(escalation.due, level.after),
            to: level.to,
        }));
    }
    for group in merged(groups) {
        let Group { name, level, due, to } = group;
        deliveries.extend(to.iter().map(|notifier| delivery(&name, level, notifier, due)));
    }
    let more = deliveries.len().saturating_sub(MAX_MESSAGES);
    if more > 0 {
        deliveries.truncate(MAX_MESSAGES);
        let why = format!("{more} more messages are left out: one escalation has {MAX_MESSAGES} at most");
        deliveries.push(lost("", why));
    }
    deliveries
}

/// `groups`, without a channel that another one of the same time tells in any case.
fn merged(groups: Vec<Group>) -> Vec<Group> {
    let mut merged: Vec<Group> = Vec::new();
    for group in groups {
        let same = |other: &&mut Group| other.due == group.due && other.to.first() == group.to.first();
        let Some(known) = merged.iter_mut().find(same) else {
            merged.push(group);
            continue;
        };
        // A policy's later levels look for its first one.
        let is_plain = known.to.first() == Some(&known.name);
        if is_plain {
            (known.name, known.level) = (group.name, group.level);
        }
        let new: Vec<String> = group.to.into_iter().filter(|channel| !known.to.contains(channel)).collect();
        known.to.extend(new);
    }
    let firsts: Vec<(Timestamp, String)> =
        merged.iter().filter_map(|group| Some((group.due, group.to.first()?.clone()))).collect();
    for group in &mut merged {
        let mut is_first = true;
        group.to.retain(|channel| {
            let told = firsts.iter().any(|(due, first)| *due == group.due && first == channel);
            std::mem::take(&mut is_first) || !told
        });
    }
    merged
}

/// By what a message is known at the far side: the same for all its tries, and another one for every level that tells
/// the same channel again, or the far side would take it for the one it has.
pub fn key(escalation: &Escalation, index: usize) -> String {
    let deliveries = escalation.deliveries();
    let notifier = deliveries.get(index).map_or("", |delivery| delivery.notifier.as_str());
    match turn(escalation, index) {
        1 => format!("{}.{notifier}", escalation.id),
        turn => format!("{}.{notifier}.{turn}", escalation.id),
    }
}

/// Which of the messages of an escalation through one channel it is, counting up from 1.
pub fn turn(escalation: &Escalation, index: usize) -> usize {
    let deliveries = escalation.deliveries();
    let notifier = deliveries.get(index).map(|delivery| &delivery.notifier);
    let before = deliveries.iter().take(index);
    1 + before.filter(|other| Some(&other.notifier) == notifier).count()
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
        lost: false,
    }
}

/// What is to be done with one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
    /// Whether it ends now by itself.
    pub is_over: bool,
    /// When something is due that is not yet.
    pub wake: Option<Timestamp>,
}

impl Due {
    /// Whether nothing will ever be due again by itself.
    pub fn is_nothing(&self) -> bool {
        self.acts.is_empty() && !self.is_over && self.wake.is_none()
    }

    fn at(&mut self, at: Timestamp, act: Act, now: Timestamp) {
        if now >= at {
            self.acts.push(act);
        } else {
            self.wake_at(at);
        }
    }

    fn wake_at(&mut self, at: Timestamp) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }
}

/// What is due of a planned escalation at `now`, while `quiet` says which channels want to be left alone.
pub fn due(escalation: &Escalation, directory: &Directory, quiet: &Quiet, now: Timestamp) -> Due {
    let mut due = Due::default();
    let deliveries = escalation.deliveries();
    for (index, delivery) in deliveries.iter().enumerate() {
        let can_resolve = directory.notifiers.get(&delivery.notifier).copied().unwrap_or(false);
        let asked = quiet.until(&delivery.notifier).unwrap_or(Timestamp::UNIX_EPOCH);
        match delivery.state {
            DeliveryState::Waiting if escalation.is_open() && !is_spared(escalation, delivery) => {
                if let Some(at) = opens(deliveries, index, quiet, now) {
                    // Only a try puts the next one off.
                    let at = if delivery.attempts == 0 { at } else { at.max(delivery.next) };
                    due.at(at.max(asked), Act::Send(index), now);
                }
            }
            _ if !escalation.is_open() && can_resolve && is_there(delivery) => {
                due.at(delivery.next.max(asked), Act::Resolve(index), now);
            }
            _ => {}
        }
    }
    if let Some(end) = lapses(escalation) {
        due.is_over = now >= end;
        if !due.is_over {
            due.wake_at(end);
        }
    }
    due
}

/// Whether the far side has the message, or may have it, and could still be asked to take it back.
fn is_there(delivery: &Delivery) -> bool {
    let has = match delivery.state {
        DeliveryState::Sent => true,
        DeliveryState::Cancelled | DeliveryState::Failed => delivery.lost,
        DeliveryState::Waiting | DeliveryState::Resolved => false,
    };
    has && delivery.resolving < RESOLVE_TRIES
}

/// When what counts many ends by itself: its window is over and no alert of it fires, or none of them was heard of for
/// longer than any level waits. Not while something of it is to be told.
fn lapses(escalation: &Escalation) -> Option<Timestamp> {
    let counts = matches!(escalation.cause, Cause::Denied | Cause::Flood) && escalation.is_open();
    let waits =
        |delivery: &Delivery| delivery.state == DeliveryState::Waiting && !is_spared(escalation, delivery);
    if !counts || escalation.deliveries().iter().any(waits) {
        return None;
    }
    let firing = escalation.totals.as_ref().is_some_and(|totals| totals.firing > 0);
    Some(after(escalation.at, if firing { FORGOTTEN } else { WINDOW }))
}

/// Whether a later level is not told because all it is about has resolved; should it fire again, the level is told.
fn is_spared(escalation: &Escalation, delivery: &Delivery) -> bool {
    delivery.due > escalation.due && escalation.totals.as_ref().is_some_and(Totals::is_over)
}

/// From when on the message at `index` may be sent; `None` while another one is still asked in its place.
fn opens(deliveries: &[Delivery], index: usize, quiet: &Quiet, now: Timestamp) -> Option<Timestamp> {
    let delivery = &deliveries[index];
    let same = |other: &&Delivery| other.name == delivery.name && other.level == delivery.level;
    if let Some(before) = deliveries[..index].last().filter(same) {
        let put_off = quiet.until(&before.notifier).is_some_and(|until| until > after(now, PATIENCE));
        // What was begun goes on.
        let stands_in = before.state == DeliveryState::Failed
            || before.attempts >= STAND_IN_AFTER
            || (put_off && before.due <= now)
            || delivery.attempts > 0;
        return stands_in.then_some(Timestamp::UNIX_EPOCH);
    }
    // Where a whole level can be told nothing, the next one need not wait.
    let level_before = |other: &&Delivery| other.name == delivery.name && other.level + 1 == delivery.level;
    let mut earlier = deliveries[..index].iter().filter(level_before).peekable();
    let lost = earlier.peek().is_some() && earlier.all(|other| other.state == DeliveryState::Failed);
    Some(if lost { Timestamp::UNIX_EPOCH } else { delivery.due })
}

/// What became of a try: accepted, perhaps with a remark on what was not, or not.
pub type Told = Result<Option<String>, Failure>;

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

impl Failure {
    /// Whether the far side may have it all the same: no answer came, or one that speaks of its own trouble.
    fn is_lost(&self) -> bool {
        !self.permanent && self.status.is_none_or(|status| status >= 500)
    }
}

/// Notes how a try ended. `now` is the end of it.
pub fn told(escalation: &mut Escalation, act: Act, result: &Told, now: Timestamp) {
    let (Act::Send(index) | Act::Resolve(index)) = act;
    let seed = format!("{}{index}", escalation.id);
    let deliveries = escalation.deliveries.get_or_insert_default();
    let Some(delivery) = deliveries.get_mut(index) else { return };
    let remark = |failure: &Failure| Some(failure.why.clone());
    delivery.error = result.as_ref().map_or_else(remark, Clone::clone);
    let is_resolve = matches!(act, Act::Resolve(_));
    if let (false, Err(failure)) = (is_resolve, result) {
        delivery.lost |= failure.is_lost();
    }
    let tries = if is_resolve { &mut delivery.resolving } else { &mut delivery.attempts };
    *tries += 1;
    let tries = *tries;
    let state = match result {
        Ok(_) if is_resolve => Some(DeliveryState::Resolved),
        // Also where it was not wanted any more while it was on its way: then it is taken back.
        Ok(_) => Some(DeliveryState::Sent),
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
