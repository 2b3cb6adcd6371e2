//! The key `retry`: whether and when a failed attempt is followed by another.

use super::{DAY, effect};
use crate::document::{Table, Value};
use crate::runbook::definition::{Kind, Question, Retry, RetryOn};
use std::time::Duration;

const HELP: &str = "write \"timeout\", \"connect\", \"exit:75\", \"status:503\" or \"status:5xx\"";

pub(super) fn read(mut table: Table<'_>, kind: Option<&Kind>) -> Retry {
    const SHORTEST: Duration = Duration::from_millis(1);
    let known = Retry::default();
    let attempts = table.take("attempts");
    if attempts.is_none() {
        table.error("the number of attempts is missing", "write attempts = 3, the first one included");
    }
    let attempts = attempts.and_then(|value| value.integer(1..=100)).and_then(|count| count.try_into().ok());
    let initial = table.take("initial").and_then(|value| value.duration(SHORTEST..=DAY));
    let initial = initial.unwrap_or(known.initial);
    let factor = table.take("factor").and_then(|value| value.number(1.0..=100.0));
    let max = table.take("max").and_then(|value| {
        let max = value.duration(SHORTEST..=DAY)?;
        if max < initial {
            value.error(
                "the longest pause is shorter than the first",
                "make `max` longer or `initial` shorter",
            );
        }
        Some(max)
    });
    let retry_on = table.take("retry_on").and_then(|value| causes(value, kind));
    table.finish();
    Retry {
        attempts: attempts.unwrap_or(known.attempts),
        initial,
        factor: factor.unwrap_or(known.factor),
        max: max.unwrap_or(known.max.max(initial)),
        retry_on: retry_on.unwrap_or_default(),
    }
}

fn causes(value: Value<'_>, kind: Option<&Kind>) -> Option<Vec<RetryOn>> {
    let (site, path, problems) = (value.span(), value.path().to_owned(), value.problems());
    let items = value.array()?;
    if items.is_empty() {
        let help = "remove it to try every failure again, or attempts = 1 for none";
        problems.error(site, &path, "no failure would be tried again", help);
    }
    let mut causes = Vec::new();
    for item in &items {
        let parsed =
            item.parsed(HELP, |text| cause(text).ok_or_else(|| format!("{text:?} is not a failure")));
        let Some(parsed) = parsed else { continue };
        if let Some(kind) = kind.filter(|kind| !can_fail(kind, parsed)) {
            item.error(format!("{} never fails like this", effect::named(kind.as_str())), fitting(kind));
        } else if causes.contains(&parsed) {
            item.error("this is there twice", "remove one");
        }
        causes.push(parsed);
    }
    Some(causes)
}

fn cause(text: &str) -> Option<RetryOn> {
    match text.split_once(':') {
        None if text == "timeout" => Some(RetryOn::Timeout),
        None if text == "connect" => Some(RetryOn::Connect),
        Some(("exit", code)) if !code.is_empty() && code.bytes().all(|b| b.is_ascii_digit()) => {
            code.parse().ok().filter(|code| (0..=255).contains(code)).map(RetryOn::Exit)
        }
        Some(("status", status)) => {
            super::http::status_range(status).map(|(first, last)| RetryOn::Status(first, last))
        }
        _ => None,
    }
}

fn exits(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Command(_)
            | Kind::Script(_)
            | Kind::Ssh(_)
            | Kind::Check { question: Question::Command(_), .. }
    )
}

fn can_fail(kind: &Kind, cause: RetryOn) -> bool {
    match cause {
        RetryOn::Timeout | RetryOn::Connect => true,
        RetryOn::Exit(_) => exits(kind),
        RetryOn::Status(..) => matches!(kind, Kind::Http(_) | Kind::Notify(_)),
    }
}

fn fitting(kind: &Kind) -> &'static str {
    match kind {
        Kind::Http(_) => "write \"timeout\", \"connect\", \"status:503\" or \"status:5xx\"",
        _ if exits(kind) => "write \"timeout\", \"connect\" or \"exit:75\"",
        _ => "write \"timeout\" or \"connect\"",
    }
}
