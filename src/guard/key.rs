//! The keys of breakers: `runbook:<id>`, `runbook:<id>:<target>`, or what a step names.

use crate::model::{RunbookId, Target};

/// The longest key: that of a runbook and the longest target fits.
const MAX_KEY: usize = 1100;

/// Why a text is no key of a breaker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Nothing to tell breakers apart by.
    #[error("the breaker's key is blank")]
    Blank,
    /// Longer than a key may be.
    #[error("the breaker's key has {0} bytes, {MAX_KEY} are allowed")]
    TooLong(usize),
    /// It could not be typed, or would hide something.
    #[error("the breaker's key holds a control character")]
    Control,
    /// It would be another runbook's breaker.
    #[error("the breaker's key begins with \"runbook:\", which is kept for the breakers of runbooks")]
    Reserved,
}

/// The key of a breaker, with what is known of where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerKey {
    text: String,
    runbook: Option<RunbookId>,
    templated: bool,
}

impl BreakerKey {
    /// Of the breaker every execution of `runbook` for `target` goes through.
    pub fn of_runbook(runbook: &RunbookId, target: Option<&Target>) -> Self {
        let text = match target {
            Some(target) => format!("runbook:{runbook}:{target}"),
            None => format!("runbook:{runbook}"),
        };
        Self { text, runbook: Some(runbook.clone()), templated: target.is_some() }
    }

    /// Of the breaker a step of `runbook` names; `templated` says that its text was not literal in the runbook.
    ///
    /// # Errors
    /// [`KeyError`] for a text that cannot be a key, as a template can make one.
    pub fn of_step(runbook: &RunbookId, text: &str, templated: bool) -> Result<Self, KeyError> {
        if text.trim().is_empty() {
            return Err(KeyError::Blank);
        }
        if text.len() > MAX_KEY {
            return Err(KeyError::TooLong(text.len()));
        }
        if text.chars().any(char::is_control) {
            return Err(KeyError::Control);
        }
        if text.starts_with("runbook:") {
            return Err(KeyError::Reserved);
        }
        Ok(Self { text: text.to_owned(), runbook: Some(runbook.clone()), templated })
    }

    /// The key itself.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whose it is.
    pub fn runbook(&self) -> Option<&RunbookId> {
        self.runbook.as_ref()
    }

    /// Whether it holds what an alert said.
    pub fn is_templated(&self) -> bool {
        self.templated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_cannot_name_the_breaker_of_a_runbook_or_a_key_that_is_none() {
        let runbook = RunbookId::new("restart").unwrap();
        let key = |text: &str| BreakerKey::of_step(&runbook, text, true).map(|key| key.as_str().to_owned());
        assert_eq!(key("db:10.0.0.1/x"), Ok("db:10.0.0.1/x".to_owned()));
        assert_eq!(key(" \t"), Err(KeyError::Blank));
        assert_eq!(key("a\nb"), Err(KeyError::Control));
        assert_eq!(key("runbook:other"), Err(KeyError::Reserved));
        assert_eq!(key(&"x".repeat(1101)), Err(KeyError::TooLong(1101)));
    }

    #[test]
    fn the_longest_target_makes_a_key_that_fits() {
        let runbook = RunbookId::new(&"r".repeat(64)).unwrap();
        let target = Target::new(&"t".repeat(1024)).unwrap();
        let key = BreakerKey::of_runbook(&runbook, Some(&target));
        assert!(key.as_str().len() <= MAX_KEY && key.is_templated());
        assert_eq!(BreakerKey::of_runbook(&runbook, None).as_str(), format!("runbook:{runbook}"));
    }
}
