//! How often something may be tried: by whom, and at most so many kept in memory. Pure; time is an argument.
//!
//! [`LoginLimiter`] bounds failed sign-ins per source and account, and per source: whoever guesses locks out nobody
//! but themselves, because the same account from another address has an allowance of its own. May import: `model`.

use crate::model::{Timestamp, neighbourhood};
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::Duration;

/// So many at once, and one more every so often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// At once.
    pub burst: u32,
    /// Until one more is allowed.
    pub every: Duration,
}

/// Allowances by key, each as the one moment at which it is whole again.
#[derive(Debug)]
pub struct Allowances<K> {
    burst: i64,
    every: i64,
    most: usize,
    whole_at: HashMap<K, i64>,
}

impl<K: Eq + Hash + Clone> Allowances<K> {
    /// With `rule` for each key, and `most` keys in memory.
    pub fn new(rule: Rule, most: usize) -> Self {
        let every = i64::try_from(rule.every.as_millis()).unwrap_or(i64::MAX / 1024).max(1);
        Self { burst: i64::from(rule.burst.max(1)), every, most: most.max(1), whole_at: HashMap::new() }
    }

    /// Uses one up; otherwise how long until there is one.
    ///
    /// # Errors
    /// The time to wait.
    pub fn take(&mut self, key: &K, now: Timestamp) -> Result<(), Duration> {
        let now = now.as_millisecond();
        let whole_at = self.whole_at.get(key).copied().unwrap_or(now).max(now);
        let wait = whole_at - now - (self.burst - 1) * self.every;
        if wait > 0 {
            return Err(Duration::from_millis(wait.unsigned_abs()));
        }
        if !self.whole_at.contains_key(key) {
            self.make_room(now);
        }
        self.whole_at.insert(key.clone(), whole_at + self.every);
        Ok(())
    }

    /// Gives one back that turned out not to count.
    pub fn give_back(&mut self, key: &K) {
        if let Some(whole_at) = self.whole_at.get_mut(key) {
            *whole_at -= self.every;
        }
    }

    /// Forgets what is whole; where that is not enough, the part that is nearest to it.
    fn make_room(&mut self, now: i64) {
        if self.whole_at.len() < self.most {
            return;
        }
        self.whole_at.retain(|_, whole_at| *whole_at > now);
        if self.whole_at.len() < self.most {
            return;
        }
        let mut times: Vec<i64> = self.whole_at.values().copied().collect();
        let (_, nearest, _) = times.select_nth_unstable(self.most / 8);
        let nearest = *nearest;
        let mut room = self.most / 8 + 1;
        self.whole_at.retain(|_, whole_at| {
            let goes = *whole_at <= nearest && room > 0;
            room -= usize::from(goes);
            !goes
        });
    }
}

/// Five wrong passwords for one account from one source, then one every half minute.
const PER_ACCOUNT: Rule = Rule { burst: 5, every: Duration::from_secs(30) };
/// Twenty wrong ones from one source, then one every five seconds.
const PER_SOURCE: Rule = Rule { burst: 20, every: Duration::from_secs(5) };
/// Sources and pairs kept in memory, each.
const MOST: usize = 10_000;
/// Characters of a name that tell accounts apart; no real one has more.
const NAME_CHARS: usize = 64;

/// Bounds failed sign-ins.
#[derive(Debug)]
pub struct LoginLimiter {
    accounts: Allowances<(IpAddr, String)>,
    sources: Allowances<IpAddr>,
}

impl Default for LoginLimiter {
    fn default() -> Self {
        Self { accounts: Allowances::new(PER_ACCOUNT, MOST), sources: Allowances::new(PER_SOURCE, MOST) }
    }
}

impl LoginLimiter {
    /// The most wrong passwords at once that [`LoginLimiter::try_now`] allows for one account.
    pub const BURST: u32 = PER_ACCOUNT.burst;

    /// Counts a try before it is made, so that many at once count like many in turn.
    ///
    /// # Errors
    /// How long to wait; nothing was counted then.
    pub fn try_now(&mut self, source: IpAddr, account: &str, now: Timestamp) -> Result<(), Duration> {
        let (source, pair) = keys(source, account);
        self.sources.take(&source, now)?;
        self.accounts.take(&pair, now).inspect_err(|_| self.sources.give_back(&source))
    }

    /// The try was none that counts: the password was right, or nothing was compared.
    pub fn forgive(&mut self, source: IpAddr, account: &str) {
        let (source, pair) = keys(source, account);
        self.sources.give_back(&source);
        self.accounts.give_back(&pair);
    }
}

/// A network of IPv6 is one source: whoever has an address there has 2⁶⁴ of them.
fn keys(source: IpAddr, account: &str) -> (IpAddr, (IpAddr, String)) {
    let source = neighbourhood(source);
    (source, (source, account.chars().take(NAME_CHARS).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::net::Ipv4Addr;
    use std::net::Ipv6Addr;

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(1_790_000_000_000 + milliseconds).unwrap()
    }

    fn v4(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    #[test]
    fn t20_five_wrong_passwords_then_a_wait_that_is_told_exactly() {
        let mut limiter = LoginLimiter::default();
        for _ in 0..5 {
            assert_eq!(limiter.try_now(v4(1), "ada", at(0)), Ok(()));
        }
        assert_eq!(limiter.try_now(v4(1), "ada", at(0)), Err(Duration::from_secs(30)));
        assert_eq!(limiter.try_now(v4(1), "ada", at(29_999)), Err(Duration::from_millis(1)));
        assert_eq!(limiter.try_now(v4(1), "ada", at(30_000)), Ok(()));
        assert!(limiter.try_now(v4(1), "ada", at(30_000)).is_err());
    }

    #[test]
    fn t20_nobody_is_locked_out_by_somebody_else() {
        let mut limiter = LoginLimiter::default();
        while limiter.try_now(v4(1), "ada", at(0)).is_ok() {}
        assert_eq!(limiter.try_now(v4(2), "ada", at(0)), Ok(()));
        assert_eq!(limiter.try_now(v4(1), "bob", at(0)), Ok(()));
    }

    #[test]
    fn t20_one_source_that_tries_many_accounts_is_slowed_down_too() {
        let mut limiter = LoginLimiter::default();
        let tried = (0..1000).filter(|n| limiter.try_now(v4(1), &format!("u{n}"), at(0)).is_ok()).count();
        assert_eq!(tried, 20);
        let network = |n: u64| IpAddr::V6(Ipv6Addr::from_bits(0x2001_0db8_u128 << 96 | u128::from(n)));
        let tried =
            (0..1000).filter(|n| limiter.try_now(network(*n), &format!("u{n}"), at(0)).is_ok()).count();
        assert_eq!(tried, 20, "a network of IPv6 is one source");
        let mapped = IpAddr::V6(Ipv4Addr::from_bits(1).to_ipv6_mapped());
        assert!(limiter.try_now(mapped, "ada", at(0)).is_err());
    }

    #[test]
    fn what_is_forgiven_was_never_tried() {
        let mut limiter = LoginLimiter::default();
        for _ in 0..1000 {
            assert_eq!(limiter.try_now(v4(1), "ada", at(0)), Ok(()));
            limiter.forgive(v4(1), "ada");
        }
    }

    #[test]
    fn memory_is_bounded_and_who_is_nearest_to_whole_is_forgotten_first() {
        let mut some = Allowances::new(Rule { burst: 3, every: Duration::from_secs(1) }, 16);
        for _ in 0..3 {
            some.take(&0, at(0)).unwrap();
        }
        for key in 1..1000 {
            some.take(&key, at(0)).unwrap();
            assert!(some.whole_at.len() <= 16);
        }
        assert!(some.take(&0, at(0)).is_err(), "the one that used up everything is remembered");
    }

    proptest! {
        /// Against a model that keeps every success: never more in any stretch of time than burst and refill give,
        /// and never a refusal while the model has room.
        #[test]
        fn t20_an_allowance_is_what_a_list_of_all_tries_would_say(
            burst in 1..6_u32,
            every in 1..50_u64,
            steps in prop::collection::vec(0..40_i64, 1..200),
        ) {
            let rule = Rule { burst, every: Duration::from_millis(every) };
            let mut allowance = Allowances::new(rule, 4);
            // The model: tokens in thousandths, refilled by the clock.
            let (mut now, mut tokens) = (0_i64, i64::from(burst) * every as i64);
            let mut passed = VecDeque::new();
            for step in steps {
                now += step;
                tokens = (tokens + step).min(i64::from(burst) * every as i64);
                let got = allowance.take(&"k", at(now));
                if tokens >= every as i64 {
                    prop_assert_eq!(got, Ok(()));
                    tokens -= every as i64;
                    passed.push_back(now);
                } else {
                    prop_assert_eq!(got, Err(Duration::from_millis((every as i64 - tokens) as u64)));
                }
                for (count, first) in passed.iter().rev().enumerate() {
                    let most = i64::from(burst) + (now - first) / every as i64;
                    prop_assert!((count as i64) < most);
                }
            }
        }
    }
}
