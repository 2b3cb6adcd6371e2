//! What the guards allow: the defaults of the config, and what a runbook says instead.

use std::time::Duration;

/// The longest time any guard looks back, and the longest cooldown.
pub const MAX_WITHIN: Duration = Duration::from_secs(30 * 24 * 3600);
/// The most starts per target that one of `max_runs` can allow.
pub(super) const MAX_RUNS: u32 = 100;
/// The most targets that `max_targets` can allow.
pub(super) const MAX_TARGETS: u32 = 500;

/// So many within such a time: that many are allowed, one more is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// How many; at least 1.
    pub count: u32,
    /// In any stretch of time this long.
    pub within: Duration,
}

/// What is in force for a runbook. What is `None`, or empty, is turned off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Between the end of one automatic execution on a target and the start of the next.
    pub cooldown: Option<Duration>,
    /// How often a target may be tried; all of them count.
    pub max_runs: Vec<Limit>,
    /// How many executions of the runbook at once.
    pub max_concurrent: Option<u32>,
    /// On how many different targets it may act.
    pub max_targets: Option<Limit>,
    /// How often an alert may fire and resolve.
    pub flapping: Option<Limit>,
    /// Whether Alertmanager is asked if the alert still fires; `None` where nobody said, then it is asked where it is
    /// configured.
    pub confirm: Option<bool>,
}

impl Default for Settings {
    fn default() -> Self {
        let hour = Duration::from_secs(3600);
        Self {
            cooldown: Some(Duration::from_secs(300)),
            max_runs: vec![Limit { count: 3, within: hour }],
            max_concurrent: Some(5),
            max_targets: Some(Limit { count: 10, within: hour }),
            flapping: Some(Limit { count: 6, within: Duration::from_secs(1800) }),
            confirm: None,
        }
    }
}

impl Settings {
    /// Every guard turned off.
    pub fn off() -> Self {
        Self {
            cooldown: None,
            max_runs: Vec::new(),
            max_concurrent: None,
            max_targets: None,
            flapping: None,
            confirm: Some(false),
        }
    }

    /// Whether anything asks for the starts on one target.
    pub fn counts_runs(&self) -> bool {
        self.cooldown.is_some() || !self.max_runs.is_empty()
    }

    /// How many starts on one target must be remembered to answer by.
    pub fn runs_kept(&self) -> usize {
        self.max_runs.iter().map(|limit| limit.count as usize).max().unwrap_or(0)
    }
}

/// What one file says: `None` for a key that it does not have, `Some(None)` for one it turns off.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `cooldown`
    pub cooldown: Option<Option<Duration>>,
    /// `max_runs`; an empty list turns it off.
    pub max_runs: Option<Vec<Limit>>,
    /// `max_concurrent`
    pub max_concurrent: Option<Option<u32>>,
    /// `max_targets`
    pub max_targets: Option<Option<Limit>>,
    /// `flapping`
    pub flapping: Option<Option<Limit>>,
    /// `confirm`
    pub confirm: Option<bool>,
}

impl Overrides {
    /// How many executions at once, where `default` is what the config says.
    pub fn max_concurrent_over(&self, default: Option<u32>) -> Option<u32> {
        self.max_concurrent.unwrap_or(default)
    }

    /// `defaults`, with what this says in their place.
    pub fn over(&self, defaults: &Settings) -> Settings {
        Settings {
            cooldown: self.cooldown.unwrap_or(defaults.cooldown),
            max_runs: self.max_runs.clone().unwrap_or_else(|| defaults.max_runs.clone()),
            max_concurrent: self.max_concurrent_over(defaults.max_concurrent),
            max_targets: self.max_targets.unwrap_or(defaults.max_targets),
            flapping: self.flapping.unwrap_or(defaults.flapping),
            confirm: self.confirm.or(defaults.confirm),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_runbook_says_stands_and_the_rest_is_as_in_the_config() {
        let defaults = Settings::default();
        assert_eq!(Overrides::default().over(&defaults), defaults);
        let limit = Limit { count: 1, within: Duration::from_secs(9) };
        let own = Overrides {
            cooldown: Some(None),
            max_runs: Some(vec![limit, Limit { count: 7, ..limit }]),
            flapping: Some(Some(limit)),
            ..Overrides::default()
        };
        let settings = own.over(&defaults);
        assert_eq!((settings.cooldown, settings.flapping), (None, Some(limit)));
        assert_eq!((settings.runs_kept(), settings.counts_runs()), (7, true));
        assert_eq!((settings.max_targets, settings.max_concurrent), (defaults.max_targets, Some(5)));
        let off = Settings::off();
        assert!(!off.counts_runs() && off.runs_kept() == 0);
    }
}
