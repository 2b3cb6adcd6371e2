//! Profiles: how many failures open a breaker, how long it stays open, what closes it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How a breaker behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Its name in runbooks and answers.
    pub name: Arc<str>,
    /// So many failures in a row open it; at least 1.
    pub failure_threshold: u32,
    /// How long it stays open the first time; doubled at each reopening, up to an hour.
    pub reset_timeout: Duration,
    /// So many successes in a row close it once it is half-open; at least 1.
    pub half_open_successes: u32,
}

impl Profile {
    fn built_in(name: &str, failure_threshold: u32, reset_seconds: u64, half_open_successes: u32) -> Self {
        let reset_timeout = Duration::from_secs(reset_seconds);
        Self { name: name.into(), failure_threshold, reset_timeout, half_open_successes }
    }
}

/// The names nobody can give another meaning.
pub const BUILT_IN_PROFILES: [&str; 3] = ["default", "aggressive", "tolerant"];

/// The profiles there are: the built-in ones and the config's own. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Profiles {
    default: Profile,
    others: Arc<BTreeMap<Arc<str>, Profile>>,
}

impl Profiles {
    /// The built-in profiles and `own`, whose names must not be those of built-in ones.
    pub fn new(own: impl IntoIterator<Item = Profile>) -> Self {
        let [default, aggressive, tolerant] = BUILT_IN_PROFILES;
        let built_in = [Profile::built_in(aggressive, 3, 30, 1), Profile::built_in(tolerant, 20, 300, 5)];
        let others = own.into_iter().chain(built_in).map(|profile| (Arc::clone(&profile.name), profile));
        Self { default: Profile::built_in(default, 5, 30, 2), others: Arc::new(others.collect()) }
    }

    /// The profile `name`, if there is one.
    pub fn get(&self, name: &str) -> Option<&Profile> {
        if *self.default.name == *name { Some(&self.default) } else { self.others.get(name) }
    }

    /// The profile `name`, or `default`: a breaker of the wrong profile is better than none. Where a name comes into
    /// force it has been complained of.
    pub fn or_default(&self, name: &str) -> &Profile {
        self.get(name).unwrap_or(&self.default)
    }

    /// The names, for help.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&*self.default.name).chain(self.others.keys().map(|name| &**name))
    }
}

impl Default for Profiles {
    fn default() -> Self {
        Self::new([])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_profiles_stay_what_they_are() {
        let own = Profile::built_in("own", 1, 1, 1);
        let fake = Profile::built_in("tolerant", 1, 1, 1);
        let profiles = Profiles::new([own.clone(), fake]);
        let numbers = |name| {
            let profile: &Profile = profiles.get(name).unwrap();
            (profile.failure_threshold, profile.reset_timeout.as_secs(), profile.half_open_successes)
        };
        assert_eq!(numbers("default"), (5, 30, 2));
        assert_eq!(numbers("aggressive"), (3, 30, 1));
        assert_eq!(numbers("tolerant"), (20, 300, 5));
        assert_eq!(profiles.or_default("own"), &own);
        assert_eq!((profiles.get("none"), &*profiles.or_default("none").name), (None, "default"));
        assert_eq!(profiles.names().collect::<Vec<_>>(), ["default", "aggressive", "own", "tolerant"]);
    }
}
