//! One alert as received, after decoding and before any decision.

use super::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Label or annotation names and values, sorted by name as Alertmanager sorts them.
pub type Labels = BTreeMap<String, String>;

/// An alert's own status. The status of the webhook body is never used: it is computed
/// after truncation and says `resolved` while alerts beyond the cut still fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertStatus {
    /// The condition holds.
    Firing,
    /// The condition ended, or its source went silent: not a proof of repair.
    Resolved,
}

impl AlertStatus {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// Alertmanager's 64-bit FNV-1a hash of a label set. An index only: two label sets can share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint(pub u64);

impl Fingerprint {
    /// The fingerprint Alertmanager computes: over sorted `name 0xff value 0xff`.
    pub fn of(labels: &Labels) -> Self {
        const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
        const PRIME: u64 = 0x0000_0100_0000_01b3;
        let mut hash = OFFSET;
        let mut eat = |bytes: &[u8]| {
            for byte in bytes {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
            }
            hash = (hash ^ 0xff).wrapping_mul(PRIME);
        };
        for (name, value) in labels {
            eat(name.as_bytes());
            eat(value.as_bytes());
        }
        Self(hash)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.to_string()
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.len() != 16 {
            return Err("a fingerprint has 16 hexadecimal digits");
        }
        u64::from_str_radix(&text, 16).map(Self).map_err(|_| "a fingerprint has 16 hexadecimal digits")
    }
}

/// One element of a webhook's `alerts`, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// This alert's own status.
    pub status: AlertStatus,
    /// The identity: the whole label set, `alertname` always among it.
    pub labels: Labels,
    /// Text for people and for routing; may differ between two deliveries of one alert.
    pub annotations: Labels,
    /// When the condition began, as its source says; it can move between deliveries.
    pub starts_at: Timestamp,
    /// When it ended; `None` while firing (the wire says year 1).
    pub ends_at: Option<Timestamp>,
    /// Link to the expression at its source; empty when absent.
    pub generator_url: String,
    /// Where the Alertmanager that sent it is for people; empty when absent.
    pub external_url: String,
    /// As sent, else computed from the labels.
    pub fingerprint: Fingerprint,
}

impl Alert {
    /// The value of the label `alertname`; decoding refuses an alert without one.
    pub fn alertname(&self) -> &str {
        self.labels.get("alertname").map_or("", String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprint_equals_the_one_alertmanager_sent() {
        let labels: Labels = [("alertname", "T_trunc"), ("case", "trunc"), ("id", "i0")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        assert_eq!(Fingerprint::of(&labels).to_string(), "96280f83830439b9");
    }
}
