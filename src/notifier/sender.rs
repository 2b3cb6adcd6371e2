//! The sender: a task that drives the outbox with its own timers, in every state of the daemon.
//!
//! Wake-ups carry no data: what the store says is what is sent. A message is noted as sent after the far side took it,
//! so a crash between the two sends it again, with the same key. May import: `report`, `store`, `telemetry`.

use super::{Book, Notifiers, Occasion, Try};
use crate::model::{Clock, ExecutionId, Timestamp, after, between};
use crate::report::{Act, Closed, Due, Escalation, EscalationId, Failure, Standing, due, letter, plan, told};
use crate::store::records::Records;
use crate::store::{CommitError, ReadError};
use crate::telemetry::{Escalated, Metrics};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long it sleeps at most: a lost wake-up costs no more than this.
const SCAN_EVERY: Duration = Duration::from_secs(5);
/// Between a piece of news and the look it causes, so that much news is one look.
const GATHER: Duration = Duration::from_millis(50);
/// How many tries are under way at once, and how many of them through one channel.
const MAX_FLYING: usize = 16;
const MAX_FLYING_OF_ONE: usize = 4;
/// How many escalations are looked at, at most.
const MAX_LOOKED_AT: usize = 100_000;
/// How long tries may still go on when the daemon ends.
const LAST_TRIES: Duration = Duration::from_secs(5);
/// After a commit that failed.
const AGAIN: Duration = Duration::from_secs(5);

/// What the sender is made of.
pub struct SenderParts {
    /// The store.
    pub records: Records,
    /// The channels.
    pub notifiers: Notifiers,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where it is counted.
    pub metrics: Metrics,
}

/// The sender.
pub struct Sender {
    parts: Arc<SenderParts>,
    /// What is known of pending escalations, so that only what changed or is due is read.
    known: HashMap<EscalationId, Known>,
    /// How many were dropped, by runbook, as last counted.
    dropped: HashMap<String, u64>,
    flying: HashMap<(EscalationId, usize), String>,
    tasks: JoinSet<(EscalationId, usize)>,
    /// The book the knowledge rests on.
    book: Arc<Book>,
}

struct Known {
    revision: u64,
    wake: Option<Timestamp>,
}

/// A change could not be made durable or read back.
enum Stuck {
    Read(ReadError),
    Commit(CommitError),
}

impl Sender {
    /// A sender that has not looked at the store yet.
    pub fn new(parts: SenderParts) -> Self {
        let book = parts.notifiers.book();
        Self {
            parts: Arc::new(parts),
            known: HashMap::new(),
            dropped: HashMap::new(),
            flying: HashMap::new(),
            tasks: JoinSet::new(),
            book,
        }
    }

    /// Sends until `stop`, then what is due and what is under way, for a short while. `news` says that something may
    /// have been left in the store.
    pub async fn run(mut self, mut news: broadcast::Receiver<ExecutionId>, stop: CancellationToken) {
        let mut listens = true;
        loop {
            let pause = self.look_and_complain().await;
            tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => self.landed(ended),
                heard = news.recv(), if listens => {
                    listens = !matches!(heard, Err(broadcast::error::RecvError::Closed));
                    tokio::select! {
                        () = tokio::time::sleep(GATHER) => {}
                        () = stop.cancelled() => {}
                    }
                    // What came meanwhile is seen by the same look.
                    news = news.resubscribe();
                }
                () = tokio::time::sleep(pause) => {}
            }
        }
        // What the last executions left; what is not taken in time is sent by the next life.
        self.look_and_complain().await;
        let last = async {
            while let Some(ended) = self.tasks.join_next().await {
                self.landed(ended);
            }
        };
        if tokio::time::timeout(LAST_TRIES, last).await.is_err() {
            tracing::warn!("some messages are still on their way; the next start sends them");
        }
    }

    fn landed(&mut self, ended: Result<(EscalationId, usize), tokio::task::JoinError>) {
        match ended {
            Ok(key) => {
                self.flying.remove(&key);
                // Whatever became of it, it is looked at again.
                if let Some(known) = self.known.get_mut(&key.0) {
                    known.wake = Some(Timestamp::UNIX_EPOCH);
                }
            }
            Err(error) => {
                tracing::error!(%error, "sending a message failed; all are looked at anew");
                self.tasks.abort_all();
                self.flying.clear();
                self.known.clear();
            }
        }
    }

    /// One look; how long to sleep.
    async fn look_and_complain(&mut self) -> Duration {
        match self.look().await {
            Ok(wake) => {
                let now = self.parts.clock.now();
                wake.map_or(SCAN_EVERY, |at| between(now, at).clamp(Duration::from_millis(1), SCAN_EVERY))
            }
            Err(stuck) => {
                match stuck {
                    Stuck::Read(error) => tracing::error!(%error, "the outbox cannot be read"),
                    Stuck::Commit(error) => tracing::error!(%error, "the outbox cannot be written"),
                }
                AGAIN
            }
        }
    }

    async fn look(&mut self) -> Result<Option<Timestamp>, Stuck> {
        let book = self.parts.notifiers.book();
        if !Arc::ptr_eq(&book, &self.book) {
            self.book = book;
            self.known.clear();
        }
        let pending = self.parts.records.pending_escalations(MAX_LOOKED_AT).await.map_err(Stuck::Read)?;
        let ids: HashSet<&EscalationId> = pending.iter().map(|(id, _)| id).collect();
        self.known.retain(|id, _| ids.contains(id));
        let now = self.parts.clock.now();
        let mut wake: Option<Timestamp> = None;
        for (id, revision) in &pending {
            let known = self.known.get(id).filter(|known| known.revision == *revision);
            let at = match known {
                Some(Known { wake, .. }) if wake.is_none_or(|at| at > now) => *wake,
                _ => self.attend(id, now).await?,
            };
            wake = [wake, at].into_iter().flatten().min();
        }
        self.count_dropped().await?;
        Ok(wake)
    }

    /// Plans, sends and takes back what is due of one escalation; when to look at it again.
    async fn attend(&mut self, id: &EscalationId, now: Timestamp) -> Result<Option<Timestamp>, Stuck> {
        let found = self.parts.records.escalation(id).await.map_err(Stuck::Read)?;
        let Some(mut escalation) = found else { return Ok(None) };
        if escalation.deliveries.is_none() {
            if escalation.is_open() && escalation.due > now {
                return Ok(self.remember(&escalation, Some(escalation.due)));
            }
            match self.plan(id, now).await? {
                Some(planned) => escalation = planned,
                None => return Ok(None),
            }
        }
        let Due { acts, mut wake } = due(&escalation, &self.book.directory, now);
        if acts.is_empty() && wake.is_none() {
            // A try under way says so itself when it lands.
            if !self.flying.keys().any(|(flying, _)| flying == id) {
                self.settle(id).await?;
            }
            return Ok(None);
        }
        for act in acts {
            if !self.start(&escalation, act, now) {
                // For want of room it is looked at again when something lands, and soon in any case.
                wake = Some(wake.map_or(after(now, SCAN_EVERY), |at| at.min(after(now, SCAN_EVERY))));
            }
        }
        Ok(self.remember(&escalation, wake))
    }

    fn remember(&mut self, escalation: &Escalation, wake: Option<Timestamp>) -> Option<Timestamp> {
        let known = Known { revision: escalation.revision, wake };
        self.known.insert(escalation.id.clone(), known);
        wake
    }

    async fn plan(&self, id: &EscalationId, now: Timestamp) -> Result<Option<Escalation>, Stuck> {
        let book = Arc::clone(&self.book);
        let planned = self.parts.records.change_escalation(id, move |escalation| {
            if escalation.deliveries.is_none() {
                let planned =
                    if escalation.is_open() { plan(escalation, &book.directory) } else { Vec::new() };
                if planned.is_empty() && escalation.is_open() {
                    let reason = "the config names nobody to be told".to_owned();
                    escalation.standing = Standing::Silent;
                    escalation.closed = Some(Closed { by: None, reason, at: now });
                }
                escalation.deliveries = Some(planned);
            }
            !due(escalation, &book.directory, now).is_nothing()
        });
        let planned = planned.await.map_err(Stuck::Commit)?;
        if let Some(planned) = &planned {
            tracing::warn!(
                escalation = %planned.id,
                runbook = %planned.runbook,
                execution_id = planned.execution.as_ref().map(ExecutionId::as_str),
                cause = planned.cause.as_str(),
                standing = planned.standing.as_str(),
                messages = planned.deliveries().len(),
                "escalation"
            );
            for lost in planned.deliveries().iter().filter(|delivery| delivery.error.is_some()) {
                self.parts.metrics.escalated(&lost.notifier, Escalated::Failed);
                tracing::error!(escalation = %planned.id, notifier = lost.notifier, error = lost.error, "nobody is told by this name");
            }
        }
        Ok(planned)
    }

    /// Nothing will be due of it by itself.
    async fn settle(&mut self, id: &EscalationId) -> Result<(), Stuck> {
        let (book, clock) = (Arc::clone(&self.book), Arc::clone(&self.parts.clock));
        self.known.remove(id);
        let settled = self.parts.records.change_escalation(id, move |escalation| {
            !due(escalation, &book.directory, clock.now()).is_nothing()
        });
        settled.await.map(drop).map_err(Stuck::Commit)
    }

    /// Starts one try, where there is room; true also where it is under way already.
    fn start(&mut self, escalation: &Escalation, act: Act, now: Timestamp) -> bool {
        let (Act::Send(index) | Act::Resolve(index)) = act;
        let Some(delivery) = escalation.deliveries().get(index) else { return true };
        let key = (escalation.id.clone(), index);
        if self.flying.contains_key(&key) {
            return true;
        }
        let of_one = self.flying.values().filter(|notifier| **notifier == delivery.notifier).count();
        if self.tasks.len() >= MAX_FLYING || of_one >= MAX_FLYING_OF_ONE {
            return false;
        }
        self.flying.insert(key.clone(), delivery.notifier.clone());
        let (parts, book) = (Arc::clone(&self.parts), Arc::clone(&self.book));
        let (escalation, notifier) = (escalation.clone(), delivery.notifier.clone());
        self.tasks.spawn(async move {
            send(&parts, &book, &escalation, act, &notifier, now).await;
            key
        });
        true
    }

    async fn count_dropped(&mut self) -> Result<(), Stuck> {
        for (runbook, backlog) in self.parts.records.backlogs().await.map_err(Stuck::Read)? {
            let before = self.dropped.insert(runbook.clone(), backlog.dropped).unwrap_or(0);
            let more = backlog.dropped.saturating_sub(before);
            if more > 0 {
                self.parts.metrics.escalations_dropped(more);
                tracing::error!(
                    runbook,
                    dropped = more,
                    "too many escalations of this runbook wait to be sent; nobody is told of these"
                );
            }
        }
        Ok(())
    }
}

/// Makes one try, and notes how it ended.
async fn send(
    parts: &SenderParts,
    book: &Arc<Book>,
    escalation: &Escalation,
    act: Act,
    notifier: &str,
    now: Timestamp,
) {
    let letter = letter(escalation, &book.external_url);
    let occasion = if matches!(act, Act::Send(_)) { Occasion::Trigger } else { Occasion::Resolve };
    let key = format!("{}.{notifier}", escalation.id);
    let result = match book.channels.get(notifier) {
        Some(channel) => channel.make(&Try { letter: &letter, occasion, key: &key, now }).await,
        None => Err(Failure {
            why: "the config has no such notifier any more".to_owned(),
            permanent: true,
            retry_after: None,
            status: None,
        }),
    };
    tell(parts, escalation, occasion, notifier, &result);
    let (end, directory) = (parts.clock.now(), Arc::clone(book));
    let noted = parts.records.change_escalation(&escalation.id, move |escalation| {
        told(escalation, act, &result, end);
        !due(escalation, &directory.directory, end).is_nothing()
    });
    if let Err(error) = noted.await {
        tracing::error!(escalation = %escalation.id, notifier, %error, "it cannot be noted how the message fared; it is sent again");
        tokio::time::sleep(AGAIN).await;
    }
}

fn tell(
    parts: &SenderParts,
    escalation: &Escalation,
    occasion: Occasion,
    notifier: &str,
    result: &Result<(), Failure>,
) {
    let id = escalation.execution.as_ref().map(ExecutionId::as_str);
    let (escalation, runbook) = (&escalation.id, &escalation.runbook);
    match (result, occasion) {
        (Ok(()), Occasion::Trigger) => {
            parts.metrics.escalated(notifier, Escalated::Sent);
            tracing::info!(%escalation, %runbook, execution_id = id, notifier, "people were told");
        }
        (Ok(()), Occasion::Resolve) => {
            parts.metrics.escalated(notifier, Escalated::Resolved);
            tracing::info!(%escalation, %runbook, execution_id = id, notifier, "the message was taken back");
        }
        (Err(failure), _) => {
            let outcome = if failure.permanent { Escalated::Failed } else { Escalated::Retried };
            parts.metrics.escalated(notifier, outcome);
            tracing::error!(%escalation, %runbook, execution_id = id, notifier, why = failure.why, permanent = failure.permanent, "people could not be told");
        }
    }
}
