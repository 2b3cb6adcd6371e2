//! The bounded sets that label values come from.
//!
//! May import: nothing of this crate. Must never: pass on a text that is not in its set.

use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder};
use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

macro_rules! label_words {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vmeta])* $variant),+ }

        impl $name {
            /// Every value, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The label value.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The value spelled `word`, if there is one.
            pub fn parse(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.as_str() == word)
            }
        }
    };
}

label_words! {
    /// The kind of a step, as the runbook file spells it.
    StepKind {
        /// A program.
        Command = "command",
        /// A shell script.
        Script = "script",
        /// An HTTP request.
        Http = "http",
        /// A Prometheus query.
        Promql = "promql",
        /// Time, or a condition.
        Wait = "wait",
        /// A question with yes or no.
        Check = "check",
        /// A person's consent.
        Approve = "approve",
        /// A text for a person.
        Instruct = "instruct",
        /// Another runbook.
        Runbook = "runbook",
        /// A message.
        Notify = "notify",
        /// An Alertmanager silence.
        Silence = "silence",
        /// A program on another host.
        Ssh = "ssh",
    }
}

label_words! {
    /// What became of a message to people.
    Escalated {
        /// The channel accepted it.
        Sent = "sent",
        /// This try failed, another one follows.
        Retried = "retried",
        /// Refused for good, or given up.
        Failed = "failed",
        /// It was taken back at the far side.
        Resolved = "resolved",
        /// Too many were waiting: nobody is told.
        Dropped = "dropped",
    }
}

label_words! {
    /// Why a request was refused for who sent it.
    AuthFailure {
        /// It carried no credential.
        Missing = "missing",
        /// Its credential cannot be read as one.
        Malformed = "malformed",
        /// Its credential is not one of ours: wrong secret, signature, issuer or audience.
        Invalid = "invalid",
        /// Its credential was good once, or is not good yet.
        Expired = "expired",
        /// Its sender is known and has not the permission.
        Forbidden = "forbidden",
        /// A page of another site made it.
        CrossSite = "cross_site",
        /// A sign-in after too many wrong ones.
        RateLimited = "rate_limited",
        /// Its credential could not be checked.
        Unavailable = "unavailable",
    }
}

/// A status code as a label value; what HTTP does not define is `other`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Code(Option<u16>);

impl Code {
    pub(super) fn new(code: u16) -> Self {
        Self((100..=599).contains(&code).then_some(code))
    }
}

impl EncodeLabelValue for Code {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> fmt::Result {
        match self.0 {
            Some(code) => code.encode(encoder),
            None => "other".encode(encoder),
        }
    }
}

/// The method as a label value: those of RFC 9110 and PATCH; anything else is `other`.
pub(super) fn method_word(method: &str) -> &'static str {
    const METHODS: [&str; 9] =
        ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"];
    METHODS.into_iter().find(|known| *known == method).unwrap_or("other")
}

/// Label values registered at run time, with one value that stands for all others.
#[derive(Debug)]
pub(super) struct Known {
    words: RwLock<HashSet<Arc<str>>>,
    unknown: Arc<str>,
    most: usize,
}

impl Known {
    pub(super) fn new(unknown: &str, most: usize) -> Self {
        Self { words: RwLock::default(), unknown: unknown.into(), most }
    }

    /// Whether `word` is a label value now; false only when the set is full.
    pub(super) fn add(&self, word: &str) -> bool {
        // A poisoned set is still a set: nothing between lock and unlock can leave it half changed.
        let mut words = self.words.write().unwrap_or_else(PoisonError::into_inner);
        if words.contains(word) {
            return true;
        }
        let room = words.len() < self.most;
        if room {
            words.insert(word.into());
        }
        room
    }

    /// `word` if it was added, else the value for all others.
    pub(super) fn get(&self, word: &str) -> Arc<str> {
        let words = self.words.read().unwrap_or_else(PoisonError::into_inner);
        words.get(word).unwrap_or(&self.unknown).clone()
    }
}
