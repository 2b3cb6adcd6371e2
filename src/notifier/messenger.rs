//! What the step `notify` asks for: a message now, without the outbox; the step's own retry is its retry.

use super::{Notifiers, Occasion, Try};
use crate::model::{Clock, Timestamp, between};
use crate::report::{Failure, note};
use crate::step::{Messenger, NotTold, Note};
use crate::telemetry::{Escalated, Metrics};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// Carries the messages of steps.
pub struct NotifierMessenger {
    /// The channels.
    pub notifiers: Notifiers,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where it is counted; not counted where nobody looks.
    pub metrics: Option<Metrics>,
}

impl Messenger for NotifierMessenger {
    fn knows(&self, name: &str) -> bool {
        self.notifiers.book().directory.levels(name).is_some()
    }

    fn tell(&self, note: Note) -> BoxFuture<'static, Result<(), NotTold>> {
        let (notifiers, clock) = (self.notifiers.clone(), Arc::clone(&self.clock));
        let metrics = self.metrics.clone();
        async move { tell(&notifiers, &*clock, metrics.as_ref(), &note).await }.boxed()
    }
}

/// Tells every name, and gives all that failed.
async fn tell(
    notifiers: &Notifiers,
    clock: &dyn Clock,
    metrics: Option<&Metrics>,
    said: &Note,
) -> Result<(), NotTold> {
    let book = notifiers.book();
    let mut failed = NotTold::default();
    let mut sentences = Vec::new();
    for name in &said.to {
        // Of a policy, who is told first; whoever is told later is told of what nobody takes, and this asks nothing.
        let levels = book.directory.levels(name).unwrap_or_default();
        let channels = levels.into_iter().next().map(|level| level.to).unwrap_or_default();
        let mut whys = Vec::new();
        let mut is_told = false;
        for channel_name in &channels {
            let now = clock.now();
            let letter = note(&said.message, said.execution.as_ref(), &said.key, now, &book.external_url);
            let key = format!("{}.{channel_name}", said.key);
            let attempt = Try { letter: &letter, occasion: Occasion::Trigger, key: &key, turn: 1, now };
            let Some(channel) = book.channels.get(channel_name) else { continue };
            let result = match asked(notifiers, channel_name, now) {
                Some(failure) => Err(failure),
                None => channel.make(&attempt).await,
            };
            notifiers.heed(channel_name, &result, clock.now());
            let outcome = if result.is_ok() { Escalated::Sent } else { Escalated::Failed };
            if let Some(metrics) = metrics {
                metrics.escalated(channel_name, outcome);
            }
            match result {
                Ok(_) => {
                    is_told = true;
                    break;
                }
                Err(Failure { why, retry_after, status, .. }) => {
                    failed.status = status.or(failed.status);
                    failed.retry_after = retry_after.max(failed.retry_after);
                    whys.push(format!("{channel_name}: {why}"));
                }
            }
        }
        if channels.is_empty() {
            whys.push("the config has no notifier and no policy of this name".to_owned());
        }
        if !is_told {
            sentences.push(format!("{name} was not told ({})", whys.join("; ")));
        }
    }
    if sentences.is_empty() {
        return Ok(());
    }
    failed.why = sentences.join("; ");
    Err(failed)
}

/// Why `notifier` is not asked now, where it wants to be left alone.
fn asked(notifiers: &Notifiers, notifier: &str, now: Timestamp) -> Option<Failure> {
    let until = notifiers.quiet().until(notifier).filter(|until| *until > now)?;
    let why = format!("it asked to be left alone until {until}");
    Some(Failure { why, permanent: false, retry_after: Some(between(now, until)), status: Some(429) })
}
