//! Who has asked how often, and what instances tell each other of it.
//!
//! What is counted lives in memory: a commit for each request would cost more than most requests. A caller that has
//! used a quarter of a limit is part of the next [`Snapshot`], which the daemon writes through its store every few
//! seconds while there is something to say; so a restart gives nobody a new minute, and instances on one store see
//! each other's callers a few seconds late. What may slip through meanwhile is less than a limit per instance.
//! May import: `model` (the time). Must never: keep a name or an address; only digests of them.

use super::RateLimit;
use super::rate::Window;
use crate::model::{Timestamp, hex, neighbourhood};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Callers remembered; the one that has been silent longest is forgotten for a new one.
const MAX_CALLERS: usize = 10_000;

/// What a request is counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Budget {
    /// Most requests.
    Requests,
    /// Starting executions by hand.
    Executions,
    /// Stopping and holding one execution. As many as of requests, but counted apart: a page that asks too often must
    /// not take the brake from the person in front of it. The kill switch is not counted at all.
    Brake,
}

/// How much a caller may ask within a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// Requests.
    pub per_minute: u32,
    /// Executions by hand.
    pub execute_per_minute: u32,
}

impl Rates {
    fn of(&self, budget: Budget) -> u32 {
        match budget {
            Budget::Requests | Budget::Brake => self.per_minute,
            Budget::Executions => self.execute_per_minute,
        }
    }
}

/// What one instance has counted, for the others and for its next life.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot(Vec<(String, Budget, Window)>);

type Caller = (String, Budget);

#[derive(Debug)]
struct Counted {
    window: Window,
    turn: u64,
    /// Worth telling.
    heavy: bool,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    own: HashMap<Caller, Counted>,
    turns: BTreeMap<u64, Caller>,
    others: HashMap<Caller, Vec<Window>>,
    untold: bool,
    asked: bool,
}

/// The counts of all callers.
#[derive(Debug, Default)]
pub struct Limiter(Mutex<Inner>);

/// The digest of a caller: a name, empty where nobody is known, at an address.
fn caller(user: &str, client: IpAddr, budget: Budget) -> Caller {
    let client = neighbourhood(client).to_string();
    let digest = Sha256::digest(format!("{}\0{user}\0{client}", user.len()));
    (hex(&digest[..16]), budget)
}

impl Limiter {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one request of `user` at `client`.
    ///
    /// # Errors
    /// The limit, when it is reached; then nothing is counted.
    pub fn ask(
        &self,
        user: &str,
        client: IpAddr,
        budget: Budget,
        rates: &Rates,
        now: Timestamp,
    ) -> Result<(), RateLimit> {
        let caller = caller(user, client, budget);
        let limit = rates.of(budget);
        let mut inner = self.inner();
        let used = inner.used(&caller, limit, now)?;
        let heavy = (used + 1).saturating_mul(4) >= limit;
        inner.count(caller, heavy, now);
        Ok(())
    }

    /// What [`Limiter::ask`] would say; counts nothing.
    ///
    /// # Errors
    /// The limit, when it is reached.
    pub fn peek(
        &self,
        user: &str,
        client: IpAddr,
        budget: Budget,
        rates: &Rates,
        now: Timestamp,
    ) -> Result<(), RateLimit> {
        self.inner().used(&caller(user, client, budget), rates.of(budget), now).map(drop)
    }

    /// What is to be told, if anything was asked since the last time that is worth it.
    pub fn to_tell(&self) -> Option<Snapshot> {
        let mut inner = self.inner();
        std::mem::take(&mut inner.untold).then(|| {
            let heavy = inner.own.iter().filter(|(_, counted)| counted.heavy);
            Snapshot(heavy.map(|((who, budget), counted)| (who.clone(), *budget, counted.window)).collect())
        })
    }

    /// Whether anything was asked since the last time this was called: then it is worth hearing the others.
    pub fn was_asked(&self) -> bool {
        std::mem::take(&mut self.inner().asked)
    }

    /// Takes up what this instance counted in an earlier life.
    pub fn resume(&self, Snapshot(earlier): Snapshot) {
        let mut inner = self.inner();
        for (who, budget, window) in earlier.into_iter().take(MAX_CALLERS) {
            inner.put((who, budget), window, true);
        }
    }

    /// Puts what the other instances told in place of what they told before.
    pub fn heard(&self, others: Vec<Snapshot>) {
        let mut heard: HashMap<Caller, Vec<Window>> = HashMap::new();
        for (who, budget, window) in others.into_iter().flat_map(|Snapshot(told)| told).take(MAX_CALLERS) {
            heard.entry((who, budget)).or_default().push(window);
        }
        self.inner().others = heard;
    }
}

impl Inner {
    /// How much the caller has used of `limit`.
    fn used(&self, caller: &Caller, limit: u32, now: Timestamp) -> Result<u32, RateLimit> {
        let mut windows = self.others.get(caller).cloned().unwrap_or_default();
        windows.extend(self.own.get(caller).map(|counted| counted.window));
        let used = windows.iter().fold(0u32, |sum, window| sum.saturating_add(window.used(now)));
        if used < limit {
            return Ok(used);
        }
        Err(RateLimit { limit, remaining: 0, reset: Window::wait(&windows, limit, now) })
    }

    fn count(&mut self, caller: Caller, heavy: bool, now: Timestamp) {
        let mut window = self.own.get(&caller).map(|counted| counted.window).unwrap_or_default();
        window.add(now);
        self.asked = true;
        self.untold |= heavy;
        self.put(caller, window, heavy);
    }

    fn put(&mut self, caller: Caller, window: Window, heavy: bool) {
        self.next += 1;
        let turn = self.next;
        if let Some(before) = self.own.insert(caller.clone(), Counted { window, turn, heavy }) {
            self.turns.remove(&before.turn);
        }
        self.turns.insert(turn, caller);
        if self.own.len() > MAX_CALLERS
            && let Some((_, oldest)) = self.turns.pop_first()
        {
            self.own.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    const RATES: Rates = Rates { per_minute: 8, execute_per_minute: 2 };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + second).unwrap()
    }

    fn ask(limiter: &Limiter, user: &str, client: u32, budget: Budget, second: i64) -> bool {
        limiter.ask(user, Ipv4Addr::from_bits(client).into(), budget, &RATES, at(second)).is_ok()
    }

    #[test]
    fn users_addresses_and_budgets_are_counted_apart() {
        let limiter = Limiter::default();
        let allowed =
            |user, client, budget| (0..20).filter(|_| ask(&limiter, user, client, budget, 0)).count();
        assert_eq!(allowed("ada", 1, Budget::Requests), 8);
        assert_eq!(allowed("ada", 1, Budget::Executions), 2);
        assert_eq!(allowed("ada", 1, Budget::Brake), 8);
        assert_eq!(allowed("ada", 2, Budget::Requests), 8);
        assert_eq!(allowed("bob", 1, Budget::Requests), 8);
        let refused = limiter.ask("ada", Ipv4Addr::from_bits(1).into(), Budget::Requests, &RATES, at(1));
        let told = RateLimit { limit: 8, remaining: 0, reset: Duration::from_secs(64) };
        assert_eq!(refused, Err(told));
        assert!(ask(&limiter, "ada", 1, Budget::Requests, 65));
    }

    #[test]
    fn the_memory_is_bounded_and_the_longest_silent_is_forgotten() {
        let limiter = Limiter::default();
        for _ in 0..8 {
            ask(&limiter, "ada", 0, Budget::Requests, 0);
        }
        (1..=MAX_CALLERS as u32 - 1)
            .for_each(|client| assert!(ask(&limiter, "", client, Budget::Requests, 0)));
        assert!(!ask(&limiter, "ada", 0, Budget::Requests, 0), "still remembered");
        assert!(ask(&limiter, "", 0, Budget::Requests, 0));
        assert!(ask(&limiter, "ada", 0, Budget::Requests, 0), "forgotten for a new one");
        let inner = limiter.inner();
        assert_eq!((inner.own.len(), inner.turns.len()), (MAX_CALLERS, MAX_CALLERS));
    }

    #[test]
    fn what_was_counted_survives_a_life_and_is_heard_by_others() {
        let first = Limiter::default();
        assert_eq!(first.to_tell(), None);
        ask(&first, "light", 1, Budget::Requests, 0);
        assert_eq!((first.to_tell(), first.was_asked(), first.was_asked()), (None, true, false));
        for _ in 0..6 {
            ask(&first, "ada", 1, Budget::Requests, 0);
        }
        let told = first.to_tell().unwrap();
        assert_eq!(first.to_tell(), None);
        let text = serde_json::to_string(&told).unwrap();
        assert!(!text.contains("ada"), "{text}");
        let told: Snapshot = serde_json::from_str(&text).unwrap();

        let second = Limiter::default();
        second.resume(told.clone());
        let other = Limiter::default();
        other.heard(vec![told.clone(), told]);
        let left =
            |limiter, second| (0..20).filter(|_| ask(limiter, "ada", 1, Budget::Requests, second)).count();
        assert_eq!((left(&second, 10), left(&other, 10)), (2, 0));
        assert_eq!(left(&other, 70), 8, "what others told grows old, too");
    }
}
