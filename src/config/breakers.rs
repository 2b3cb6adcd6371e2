//! `[breakers.NAME]`: profiles of circuit breakers beside the built-in ones.
//!
//! May import: `document`, `guard` (the profile). Must never: give a built-in name another meaning.

use super::source::{Source, Sources};
use crate::document::{Table, Value};
use crate::guard::{BUILT_IN_PROFILES, MAX_WAIT, Profile, Profiles};
use crate::model::is_word;
use std::time::Duration;

/// Reads `[breakers]`.
pub(super) fn read<'d>(sources: &Sources<'d>, root: &mut Table<'d>) -> Profiles {
    let section = root.take("breakers").and_then(Value::table);
    let entries = section.map(|mut section| section.take_all()).unwrap_or_default();
    if entries.is_empty() {
        sources.item("breakers", "", Source::Default);
    }
    let mut own = Vec::new();
    for (name, value) in entries {
        let wrong = |message: String, help: &str| {
            sources.problems.error(name.span.clone(), value.path(), message, help);
        };
        if BUILT_IN_PROFILES.contains(&name.value.as_str()) {
            wrong(format!("{:?} is a built-in profile", name.value), "choose another name");
        } else if !is_word(&name.value) {
            wrong(format!("{:?} is not a name for a profile", name.value), "use 1 to 64 of A-Z a-z 0-9 _ -");
        }
        own.extend(value.table().map(|table| profile(sources, &name.value, table)));
    }
    Profiles::new(own)
}

/// One profile; what it does not say is as in `default`.
fn profile<'d>(sources: &Sources<'d>, name: &str, mut table: Table<'d>) -> Profile {
    let profiles = Profiles::default();
    let default = profiles.or_default("default");
    let mut count = |key, most, default| {
        let number = table.take(key).and_then(|value| value.integer(1..=most));
        number.and_then(|number| u32::try_from(number).ok()).unwrap_or(default)
    };
    let failure_threshold = count("failure_threshold", 1000, default.failure_threshold);
    let half_open_successes = count("half_open_successes", 100, default.half_open_successes);
    let wait =
        table.take("reset_timeout").and_then(|value| value.duration(Duration::from_secs(1)..=MAX_WAIT));
    let profile = Profile {
        name: name.into(),
        failure_threshold,
        reset_timeout: wait.unwrap_or(default.reset_timeout),
        half_open_successes,
    };
    table.finish();
    let shown = [
        ("failure_threshold", profile.failure_threshold.to_string()),
        ("reset_timeout", humantime::format_duration(profile.reset_timeout).to_string()),
        ("half_open_successes", profile.half_open_successes.to_string()),
    ];
    for (key, value) in shown {
        sources.item(format!("breakers.{name}.{key}"), value, Source::File);
    }
    profile
}
