//! What the kinds that only ask other programs have in common: an end by kill or timeout, and a short output.
//!
//! May import: `model`. Must never: know what is asked.

use super::{AttemptContext, Finished, INLINE, KillSignal, Runner};
use crate::model::AttemptOutcome;
use std::time::Duration;

/// What came of asking.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The status of the answer that decided, when there was one.
    pub(super) status: Option<u16>,
    /// What that answer said of the next try.
    pub(super) retry_after: Option<Duration>,
    /// The attempt's standard output, at most [`INLINE`] bytes.
    pub(super) stdout: String,
    /// Why it failed, when it did.
    pub(super) failure: Option<String>,
}

/// Sees `asking` through to its end, its timeout or a kill.
pub(super) async fn supervise(
    runner: &Runner,
    context: &AttemptContext,
    mut kill: KillSignal,
    asking: impl Future<Output = Told>,
) -> Finished {
    let streams = runner.streams(context, INLINE as u64);
    let (outcome, told) = tokio::select! {
        biased;
        told = asking => match told.failure {
            None => (AttemptOutcome::Succeeded, told),
            Some(_) => (AttemptOutcome::Failed, told),
        },
        _ = kill.asked() => (AttemptOutcome::Stopped, failed("it was stopped on request".to_owned())),
        () = tokio::time::sleep(context.timeout) => {
            let after = humantime::format_duration(context.timeout);
            (AttemptOutcome::TimedOut, failed(format!("its timeout of {after} passed before there was an answer")))
        }
    };
    let Told { status, retry_after, stdout, failure } = told;
    let length = stdout.len();
    streams.stdout.take(stdout.into_bytes(), length).await;
    let (stdout, stderr, problems) = streams.finish().await;
    let sentences: Vec<String> = failure.into_iter().chain(problems).collect();
    Finished {
        outcome,
        exit_code: None,
        signal: None,
        http_status: status,
        retry_after,
        stdout,
        stderr,
        error: (!sentences.is_empty()).then(|| sentences.join("; ")),
    }
}

/// Nothing but a failure.
pub(super) fn failed(sentence: String) -> Told {
    Told { failure: Some(sentence), ..Told::default() }
}
