//! The kind `notify`: a message to people, through whoever carries messages.
//!
//! May import: `model`. Must never: know a notifier, or make a key of its own: with the attempt's, a far side that
//! keeps keys takes a message once.

use super::ask::{Told, failed, supervise};
use super::{AttemptContext, Finished, KillSignal, NotifyCall, Runner};
use crate::model::ExecutionId;
use futures_util::future::BoxFuture;
use std::time::Duration;

/// A message of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Notifiers and policies by name.
    pub to: Vec<String>,
    /// What is said.
    pub message: String,
    /// The execution that says it; none where a person asks whether it works.
    pub execution: Option<ExecutionId>,
    /// The same for every attempt.
    pub key: String,
}

/// Why a message did not reach everybody it is for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NotTold {
    /// A sentence, without a secret.
    pub why: String,
    /// The status of the answer that decided, when there was one.
    pub status: Option<u16>,
    /// What that answer said of the next try.
    pub retry_after: Option<Duration>,
}

/// Carries messages to people.
pub trait Messenger: Send + Sync + 'static {
    /// Tells everybody in `note.to`; one channel of each name must take it.
    fn tell(&self, note: Note) -> BoxFuture<'static, Result<(), NotTold>>;

    /// Whether there is somebody of this name to tell.
    fn knows(&self, name: &str) -> bool;
}

/// Runs a `notify` attempt.
pub(super) async fn run(
    runner: &Runner,
    context: &AttemptContext,
    call: &NotifyCall,
    kill: KillSignal,
) -> Finished {
    let Some(messenger) = &runner.ways.messenger else {
        return Finished::refused("nobody carries messages here".into());
    };
    let NotifyCall { to, message } = call.clone();
    if message.trim().is_empty() {
        return Finished::refused("the message is blank: nothing in it was filled in".into());
    }
    let (execution, key) = (context.execution.clone(), context.idempotency_key.clone());
    let telling = messenger.tell(Note { to, message, execution: Some(execution), key });
    let asking = async {
        match telling.await {
            Ok(()) => Told::default(),
            Err(NotTold { why, status, retry_after }) => Told { status, retry_after, ..failed(why) },
        }
    };
    supervise(runner, context, kill, asking).await
}
