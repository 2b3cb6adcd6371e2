//! The kinds `silence` and its undo: a silence in Alertmanager, found again by its key.
//!
//! Making a silence is not idempotent there, so it is looked for first; that makes every further attempt, also after
//! a crash, find what an earlier one made. May import: `model`. Must never: make a second silence for one key.

use super::alertmanager::{AlertmanagerClient, AlertmanagerError, NewSilence};
use super::ask::{Told, failed, supervise};
use super::{AttemptContext, ExpireSilenceCall, Finished, KillSignal, Runner, SilenceCall};
use crate::model::{Clock, Matcher, after};
use serde_json::{Value, json};
use std::time::Duration;

/// A silence begins so much earlier than now, so that a clock ahead of Alertmanager's does not put it off;
/// Alertmanager makes its own now of what lies in the past.
const EARLIER: Duration = Duration::from_secs(60);

/// How much of a comment is kept, in bytes.
const COMMENT_MAX: usize = 4096;

const NOBODY: &str = "there is no [alertmanager] urls in the config to ask";

/// Runs a `silence` attempt.
pub(super) async fn run(
    runner: &Runner,
    context: &AttemptContext,
    call: &SilenceCall,
    kill: KillSignal,
) -> Finished {
    let Some(client) = &runner.ways.alertmanager else { return Finished::refused(NOBODY.into()) };
    let matchers = match matchers(&call.matchers).and_then(|found| check_key(&call.key).map(|()| found)) {
        Ok(matchers) => matchers,
        Err(sentence) => return Finished::refused(sentence),
    };
    supervise(runner, context, kill, make(client, &*runner.ways.clock, call, matchers)).await
}

/// Runs an `expire_silence` attempt.
pub(super) async fn run_expire(
    runner: &Runner,
    context: &AttemptContext,
    call: &ExpireSilenceCall,
    kill: KillSignal,
) -> Finished {
    let Some(client) = &runner.ways.alertmanager else { return Finished::refused(NOBODY.into()) };
    if let Err(sentence) = check_key(&call.key) {
        return Finished::refused(sentence);
    }
    supervise(runner, context, kill, expire(client, &*runner.ways.clock, &call.key)).await
}

async fn make(
    client: &AlertmanagerClient,
    clock: &dyn Clock,
    call: &SilenceCall,
    matchers: Vec<Value>,
) -> Told {
    let found = match client.find(&call.key, clock.now()).await {
        Ok((found, _)) => found,
        Err(error) => return of(error),
    };
    let id = match found.into_iter().next() {
        Some(known) => known.id,
        None => {
            let now = clock.now();
            let comment = &call.comment[..call.comment.floor_char_boundary(COMMENT_MAX)];
            let new = NewSilence {
                matchers,
                starts_at: now.checked_sub(EARLIER).unwrap_or(now),
                ends_at: after(now, call.duration),
                comment: comment.to_owned(),
            };
            match client.make(&new, &call.key, now).await {
                Ok(id) => id,
                Err(error) => return of(error),
            }
        }
    };
    Told { status: Some(200), stdout: json!({ "silenceID": id }).to_string(), ..Told::default() }
}

async fn expire(client: &AlertmanagerClient, clock: &dyn Clock, key: &str) -> Told {
    let (found, errors) = match client.find(key, clock.now()).await {
        Ok(found) => found,
        Err(error) => return of(error),
    };
    for silence in &found {
        if let Err(error) = client.expire(silence, clock.now()).await {
            return of(error);
        }
    }
    // A member that did not say could be the only one that knows it.
    if let (true, Some(error)) = (found.is_empty(), errors.into_iter().next()) {
        return of(error);
    }
    let ids: Vec<&str> = found.iter().map(|silence| silence.id.as_str()).collect();
    Told { status: Some(200), stdout: json!({ "expired": ids }).to_string(), ..Told::default() }
}

fn of(error: AlertmanagerError) -> Told {
    let head = match &error {
        AlertmanagerError::Refused { status, retry_after, .. } => {
            Told { status: Some(*status), retry_after: *retry_after, ..Told::default() }
        }
        // It did answer, so this is no failure to connect.
        AlertmanagerError::Unusable(_) => Told { status: Some(200), ..Told::default() },
        AlertmanagerError::NotReached(_) | AlertmanagerError::NoAnswer(_) => Told::default(),
    };
    Told { failure: failed(error.to_string()).failure, ..head }
}

/// The matchers as the API wants them.
fn matchers(texts: &[String]) -> Result<Vec<Value>, String> {
    if texts.is_empty() {
        return Err("the silence has no matcher".into());
    }
    let one = |text: &String| {
        let matcher = Matcher::parse(text).map_err(|error| error.to_string())?;
        Ok(json!({
            "name": matcher.name(),
            "value": matcher.value(),
            "isRegex": matcher.is_regex(),
            "isEqual": matcher.is_equal(),
        }))
    };
    texts.iter().map(one).collect()
}

/// A key that cannot be mistaken for another: one word, without the bracket that ends it in the comment.
fn check_key(key: &str) -> Result<(), String> {
    let fits = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    if fits { Ok(()) } else { Err(format!("{key:?} cannot be the key of a silence")) }
}
