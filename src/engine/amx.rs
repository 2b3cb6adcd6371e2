//! The environment prometheus-am-executor gives its commands, for the one alert of an execution.
//!
//! Pure. Label names that cannot be part of a variable's name, values with a NUL, and whatever would make
//! the environment too large for the kernel are left out: a step that needs such a value names it as an input.

use crate::journal::{Trigger, TriggerKind};
use std::collections::BTreeMap;

/// Bytes of names and values together.
const BUDGET: usize = 256 << 10;
/// Bytes of one value: the kernel refuses a single text above 128 KiB.
const VALUE_MAX: usize = 100 << 10;

/// The `AMX_*` variables of a trigger.
pub(super) fn variables(trigger: &Trigger) -> BTreeMap<String, String> {
    if trigger.kind != TriggerKind::Alert {
        return BTreeMap::new();
    }
    let mut found: Vec<(String, String)> = vec![
        ("AMX_STATUS".into(), "firing".into()),
        ("AMX_ALERT_LEN".into(), "1".into()),
        ("AMX_ALERT_1_STATUS".into(), "firing".into()),
        ("AMX_ALERT_1_END".into(), "0".into()),
        ("AMX_ALERT_1_URL".into(), trigger.generator_url.clone()),
    ];
    if let Some(at) = trigger.starts_at {
        found.push(("AMX_ALERT_1_START".into(), at.as_second().to_string()));
    }
    if let Some(fingerprint) = trigger.fingerprint {
        found.push(("AMX_ALERT_1_FINGERPRINT".into(), fingerprint.to_string()));
    }
    for (name, value) in &trigger.labels {
        found.push((format!("AMX_LABEL_{name}"), value.clone()));
        found.push((format!("AMX_ALERT_1_LABEL_{name}"), value.clone()));
    }
    for (name, value) in &trigger.annotations {
        found.push((format!("AMX_ANNOTATION_{name}"), value.clone()));
        found.push((format!("AMX_ALERT_1_ANNOTATION_{name}"), value.clone()));
    }
    let mut room = BUDGET;
    let word = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    found.retain(|(name, value)| {
        let size = name.len() + value.len() + 2;
        let fits = word(name) && !value.contains('\0') && value.len() <= VALUE_MAX && size <= room;
        room -= if fits { size } else { 0 };
        fits
    });
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Labels;

    fn trigger(labels: &[(&str, &str)]) -> Trigger {
        Trigger {
            kind: TriggerKind::Alert,
            alertname: Some("A".into()),
            fingerprint: None,
            starts_at: None,
            generator_url: String::new(),
            external_url: String::new(),
            labels: labels.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            annotations: Labels::new(),
            by: "alert:A".into(),
            reason: None,
            of: None,
        }
    }

    #[test]
    fn hostile_names_and_values_cannot_name_a_variable_of_their_own() {
        let found = variables(&trigger(&[
            ("instance", "a:1"),
            ("LD_PRELOAD", "x"),
            ("a=b", "x"),
            ("ü", "x"),
            ("n", "\0"),
        ]));
        assert_eq!(found["AMX_LABEL_instance"], "a:1");
        assert!(found.keys().all(|name| name.starts_with("AMX_")), "{found:?}");
        assert!(!found.contains_key("AMX_LABEL_n") && !found.contains_key("AMX_LABEL_a=b"));
    }

    #[test]
    fn the_environment_stays_within_its_budget() {
        let big = "x".repeat(60 << 10);
        let names: Vec<String> = (0..100).map(|n| format!("l{n}")).collect();
        let labels: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), big.as_str())).collect();
        let size: usize =
            variables(&trigger(&labels)).iter().map(|(name, value)| name.len() + value.len()).sum();
        assert!(size <= BUDGET);
    }
}
