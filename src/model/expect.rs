//! What the samples of a query must satisfy: `> 0`, `>= 1`, `< 2`, `<= 2`, `== 1`, `!= 3` or `absent`.
//!
//! Pure data. Must never: take NaN for an answer; a value nobody knows satisfies nothing.

use std::fmt;

/// Why a text is not an expectation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an expectation")]
pub struct ExpectError(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
}

impl Comparison {
    /// The longer operators first, so that `>=` is not read as `>`.
    const ALL: [(&'static str, Self); 6] = [
        (">=", Self::GreaterOrEqual),
        ("<=", Self::LessOrEqual),
        ("==", Self::Equal),
        ("!=", Self::NotEqual),
        (">", Self::Greater),
        ("<", Self::Less),
    ];
}

/// What every sample of a query must satisfy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Expect(Option<(Comparison, f64)>);

impl Expect {
    /// Reads an operator and a number (`1`, `0.5`, `1e3`, `-2`), or the word `absent`.
    ///
    /// # Errors
    /// [`ExpectError`] for anything else; also for a number that is not finite.
    pub fn parse(text: &str) -> Result<Self, ExpectError> {
        let error = || ExpectError(text.chars().take(80).collect());
        let trimmed = text.trim();
        if trimmed == "absent" {
            return Ok(Self(None));
        }
        let (comparison, number) = Comparison::ALL
            .into_iter()
            .find_map(|(operator, comparison)| Some((comparison, trimmed.strip_prefix(operator)?)))
            .ok_or_else(error)?;
        let number: f64 = number.trim().parse().map_err(|_| error())?;
        if number.is_finite() { Ok(Self(Some((comparison, number)))) } else { Err(error()) }
    }

    /// Whether it asks that there be no sample at all.
    pub fn is_absent(self) -> bool {
        self.0.is_none()
    }

    /// Whether one sample satisfies it. NaN satisfies nothing, and no sample satisfies `absent`.
    pub fn satisfied_by(self, sample: f64) -> bool {
        let Some((comparison, number)) = self.0 else { return false };
        match comparison {
            Comparison::Greater => sample > number,
            Comparison::GreaterOrEqual => sample >= number,
            Comparison::Less => sample < number,
            Comparison::LessOrEqual => sample <= number,
            Comparison::Equal => sample == number,
            // Of the six, only this one would hold for NaN.
            Comparison::NotEqual => !sample.is_nan() && sample != number,
        }
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((comparison, number)) = self.0 else { return f.write_str("absent") };
        let operator = Comparison::ALL
            .iter()
            .find(|(_, known)| *known == comparison)
            .map_or("", |(operator, _)| operator);
        write!(f, "{operator} {number}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expect: &str, sample: f64, satisfied: bool) {
        assert_eq!(Expect::parse(expect).unwrap().satisfied_by(sample), satisfied, "{sample} {expect}");
    }

    #[test]
    fn the_six_operators_compare_as_in_promql() {
        check("> 0", 0.0, false);
        check(">0.5", 0.6, true);
        check(">= 1", 1.0, true);
        check(">= 1", 0.9, false);
        check("< 2", 2.0, false);
        check("< -2", -3.0, true);
        check("<= 2", 2.0, true);
        check("== 1", 1.0, true);
        check("== 1e3", 1000.0, true);
        check("!= 3", 3.0, false);
        check("!= 3", 4.0, true);
        check("> 3", f64::INFINITY, true);
    }

    #[test]
    fn nan_satisfies_nothing_and_no_sample_is_absent() {
        for expect in ["> 0", ">= 0", "< 0", "<= 0", "== 0", "!= 0", "absent"] {
            check(expect, f64::NAN, false);
        }
        check("absent", 1.0, false);
        assert!(Expect::parse(" absent ").unwrap().is_absent());
        assert!(!Expect::parse("== 0").unwrap().is_absent());
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in ["", "1", "= 1", "=> 1", "> ", "> one", "== NaN", "< inf", "absent 1", "> 1 or vector(1)"]
        {
            assert!(Expect::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn it_prints_as_it_reads() {
        for text in ["> 0", ">= 1.5", "< -2", "<= 2", "== 1", "!= 3", "absent"] {
            assert_eq!(Expect::parse(text).unwrap().to_string(), text);
        }
    }
}
