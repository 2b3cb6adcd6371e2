//! The sender: a task that drives the outbox with its own timers, in every state of the daemon.
//!
//! Wake-ups carry no data: what the store says is what is sent. The whole outbox is looked through at news and every few
//! seconds; in between only what is due or has just landed is read. A message is noted as sent after the far side took
//! it, so a crash between the two sends it again, with the same key. May import: `report`, `store`, `telemetry`.

use super::queue::{Job, Queue};
use super::{Book, Notifiers, Occasion, Try};
use crate::model::{Clock, ExecutionId, Timestamp, between};
use crate::report::{
    Act, Closed, Due, Escalation, EscalationId, Failure, Quiet, Standing, Told, close, due, key, letter,
    plan, told, turn,
};
use crate::store::records::Records;
use crate::store::{CommitError, ReadError};
use crate::telemetry::{Escalated, Metrics};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long it goes without looking through the outbox at most: a lost wake-up costs no more than this.
const SCAN_EVERY: Duration = Duration::from_secs(5);
/// Between a piece of news and the look it causes, so that much news is one look.
const GATHER: Duration = Duration::from_millis(50);
/// How many escalations are looked at, at most.
const MAX_LOOKED_AT: usize = 100_000;
/// How many are planned in one commit.
const BATCH: usize = 256;
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
    /// When each of these is looked at again.
    agenda: BTreeSet<(Timestamp, EscalationId)>,
    queue: Queue,
    /// How many were dropped, by runbook, as last counted.
    dropped: HashMap<String, u64>,
    tasks: JoinSet<Job>,
    /// The book the knowledge rests on.
    book: Arc<Book>,
    /// When the outbox is looked through again.
    scan_at: Instant,
    /// How many nobody was told of when it was last looked through, and since when the oldest waits.
    waiting: (usize, Option<Timestamp>),
}

struct Known {
    revision: u64,
    wake: Option<Timestamp>,
    /// Since when somebody should have been told, where nobody was.
    untold: Option<Timestamp>,
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
            agenda: BTreeSet::new(),
            queue: Queue::default(),
            dropped: HashMap::new(),
            tasks: JoinSet::new(),
            book,
            scan_at: Instant::now(),
            waiting: (0, None),
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
                    self.scan_at = Instant::now();
                }
                () = tokio::time::sleep(pause) => {}
            }
        }
        // What the last executions left; what is not taken in time is sent by the next life.
        self.scan_at = Instant::now();
        let last = async {
            loop {
                self.look_and_complain().await;
                let Some(ended) = self.tasks.join_next().await else { break };
                self.landed(ended);
            }
        };
        if tokio::time::timeout(LAST_TRIES, last).await.is_err() {
            tracing::warn!("some messages are still on their way; the next start sends them");
        }
    }

    /// Notes which try is over, and every other one that is by now.
    fn landed(&mut self, ended: Result<Job, JoinError>) {
        let mut ended = Some(ended);
        while let Some(one) = ended {
            match one {
                Ok(job) => self.landed_one(&job),
                Err(error) => {
                    tracing::error!(%error, "sending a message failed; all are looked at anew");
                    self.tasks = JoinSet::new();
                    self.queue = Queue::default();
                    self.forget_all();
                }
            }
            ended = self.tasks.try_join_next();
        }
    }

    fn landed_one(&mut self, job: &Job) {
        self.queue.landed(job);
        // Whatever became of it, it is looked at again.
        self.wake(&job.id, Some(Timestamp::UNIX_EPOCH));
        let now = self.parts.clock.now();
        if self.parts.notifiers.quiet().until(&job.notifier).is_some_and(|until| until > now) {
            // The others are looked at as well: somebody may stand in for this channel.
            for id in self.queue.clear(&job.notifier) {
                self.wake(&id, Some(Timestamp::UNIX_EPOCH));
            }
        }
    }

    fn forget_all(&mut self) {
        self.known.clear();
        self.agenda.clear();
        self.scan_at = Instant::now();
    }

    /// Sets when a known one is looked at again.
    fn wake(&mut self, id: &EscalationId, wake: Option<Timestamp>) {
        let Some(known) = self.known.get_mut(id) else { return };
        if let Some(before) = known.wake {
            self.agenda.remove(&(before, id.clone()));
        }
        known.wake = wake;
        self.agenda.extend(wake.map(|at| (at, id.clone())));
    }

    fn remember(&mut self, id: &EscalationId, known: Known) {
        self.forget(id);
        self.agenda.extend(known.wake.map(|at| (at, id.clone())));
        self.known.insert(id.clone(), known);
    }

    fn forget(&mut self, id: &EscalationId) {
        let before = self.known.remove(id).and_then(|known| known.wake);
        if let Some(before) = before {
            self.agenda.remove(&(before, id.clone()));
        }
    }

    /// One look; how long to sleep.
    async fn look_and_complain(&mut self) -> Duration {
        if let Err(stuck) = self.look().await {
            match stuck {
                Stuck::Read(error) => tracing::error!(%error, "the outbox cannot be read"),
                Stuck::Commit(error) => tracing::error!(%error, "the outbox cannot be written"),
            }
            // What was half done is found again.
            self.forget_all();
            self.scan_at = Instant::now() + AGAIN;
        }
        let now = self.parts.clock.now();
        let (count, oldest) = self.waiting;
        // Also while the outbox cannot be read: then it only grows.
        self.parts
            .metrics
            .escalations_wait(count, oldest.map_or(Duration::ZERO, |since| between(since, now)));
        let due = self.agenda.first().map_or(SCAN_EVERY, |(at, _)| between(now, *at));
        due.min(self.scan_at.saturating_duration_since(Instant::now())).max(Duration::from_millis(1))
    }

    async fn look(&mut self) -> Result<(), Stuck> {
        let book = self.parts.notifiers.book();
        if !Arc::ptr_eq(&book, &self.book) {
            self.book = book;
            self.forget_all();
        }
        let scans = Instant::now() >= self.scan_at;
        if scans {
            self.scan().await?;
            self.scan_at = Instant::now() + SCAN_EVERY;
        }
        let now = self.parts.clock.now();
        let due: Vec<EscalationId> =
            self.agenda.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| id.clone()).collect();
        for ids in due.chunks(BATCH) {
            self.attend(ids, now).await?;
        }
        if scans {
            let late = || self.known.values().filter_map(|known| known.untold).filter(|since| *since < now);
            self.waiting = (late().count(), late().min());
        }
        self.fill(now).await
    }

    /// Looks through the whole outbox for what is new or changed.
    async fn scan(&mut self) -> Result<(), Stuck> {
        let pending = self.parts.records.pending_escalations(MAX_LOOKED_AT).await.map_err(Stuck::Read)?;
        let ids: HashSet<&EscalationId> = pending.iter().map(|(id, _)| id).collect();
        let gone: Vec<EscalationId> = self.known.keys().filter(|id| !ids.contains(id)).cloned().collect();
        for id in gone {
            self.forget(&id);
            self.queue.forget(&id);
        }
        for (id, revision) in pending {
            if self.known.get(&id).is_none_or(|known| known.revision != revision) {
                let wake = Some(Timestamp::UNIX_EPOCH);
                self.remember(&id, Known { revision, wake, untold: None });
            }
        }
        self.count_dropped().await
    }

    /// Looks at some escalations: plans what is not planned, and puts what is due into the queue.
    async fn attend(&mut self, ids: &[EscalationId], now: Timestamp) -> Result<(), Stuck> {
        let (mut planned, mut fresh) = (Vec::new(), Vec::new());
        for id in ids {
            match self.parts.records.escalation(id).await.map_err(Stuck::Read)? {
                None => self.forget(id),
                Some(escalation) if escalation.deliveries.is_some() => planned.push(escalation),
                Some(escalation) if escalation.is_open() && escalation.due > now => {
                    let (revision, wake) = (escalation.revision, Some(escalation.due));
                    self.remember(id, Known { revision, wake, untold: None });
                }
                Some(_) => fresh.push(id.clone()),
            }
        }
        if !fresh.is_empty() {
            planned.extend(self.plan(&fresh, now).await?);
        }
        let quiet = self.parts.notifiers.quiet();
        let mut settled = Vec::new();
        for escalation in &planned {
            let Due { acts, is_over, wake } = due(escalation, &self.book.directory, &quiet, now);
            let is_nothing = acts.is_empty() && wake.is_none() && !self.queue.is_flying(&escalation.id);
            if is_over || is_nothing {
                settled.push(escalation.id.clone());
            }
            self.queue.put(escalation, &acts);
            let untold = untold_since(escalation);
            self.remember(&escalation.id, Known { revision: escalation.revision, wake, untold });
        }
        if settled.is_empty() { Ok(()) } else { self.settle(settled).await }
    }

    /// Makes messages of escalations that have none yet, in one commit.
    async fn plan(&self, ids: &[EscalationId], now: Timestamp) -> Result<Vec<Escalation>, Stuck> {
        let book = Arc::clone(&self.book);
        let planned = self.parts.records.change_escalations(ids, move |escalation| {
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
            !due(escalation, &book.directory, &Quiet::default(), now).is_nothing()
        });
        let planned = planned.await.map_err(Stuck::Commit)?;
        for one in &planned {
            tracing::warn!(
                escalation = %one.id,
                runbook = %one.runbook,
                execution_id = one.execution.as_ref().map(ExecutionId::as_str),
                cause = one.cause.as_str(),
                standing = one.standing.as_str(),
                messages = one.deliveries().len(),
                "escalation"
            );
            for lost in one.deliveries().iter().filter(|delivery| delivery.error.is_some()) {
                self.parts.metrics.escalated(&lost.notifier, Escalated::Failed);
                tracing::error!(escalation = %one.id, notifier = lost.notifier, error = lost.error, "nobody is told by this name");
            }
        }
        Ok(planned)
    }

    /// Ends what is over by itself, and notes of what nothing will be due any more.
    async fn settle(&mut self, ids: Vec<EscalationId>) -> Result<(), Stuck> {
        let (book, clock) = (Arc::clone(&self.book), Arc::clone(&self.parts.clock));
        let settled = self.parts.records.change_escalations(&ids, move |escalation| {
            let now = clock.now();
            if due(escalation, &book.directory, &Quiet::default(), now).is_over {
                let reason = "its hour is over and none of its alerts is known to fire".to_owned();
                close(escalation, Standing::Resolved, Closed { by: None, reason, at: now });
            }
            !due(escalation, &book.directory, &Quiet::default(), now).is_nothing()
        });
        let settled = settled.await.map_err(Stuck::Commit)?;
        for one in settled {
            let untold = untold_since(&one);
            // Looked at once more: what it told may be to be taken back. Otherwise the next scan forgets it.
            let is_left =
                !due(&one, &self.book.directory, &Quiet::default(), self.parts.clock.now()).is_nothing();
            let wake = is_left.then_some(Timestamp::UNIX_EPOCH);
            self.remember(&one.id, Known { revision: one.revision, wake, untold });
        }
        Ok(())
    }

    /// Starts tries while there is room for them.
    async fn fill(&mut self, now: Timestamp) -> Result<(), Stuck> {
        while let Some(job) = self.queue.next() {
            let found = self.parts.records.escalation(&job.id).await;
            let found = found.inspect_err(|_| self.queue.landed(&job)).map_err(Stuck::Read)?;
            let quiet = self.parts.notifiers.quiet();
            let is_due = |escalation: &Escalation| {
                due(escalation, &self.book.directory, &quiet, now).acts.contains(&job.act)
            };
            let Some(escalation) = found.filter(is_due) else {
                // It changed while it waited.
                self.queue.landed(&job);
                self.wake(&job.id, Some(now));
                continue;
            };
            let (parts, book) = (Arc::clone(&self.parts), Arc::clone(&self.book));
            self.tasks.spawn(async move {
                send(&parts, &book, &escalation, &job, now).await;
                job
            });
        }
        Ok(())
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
                    "too many escalations of this runbook wait to be sent; these are only counted in one that stands for all"
                );
            }
        }
        Ok(())
    }
}

/// Since when somebody should have been told of `escalation`, where nobody was.
fn untold_since(escalation: &Escalation) -> Option<Timestamp> {
    let is_untold = escalation.is_open() && !escalation.is_told();
    let first = escalation.deliveries().iter().map(|delivery| delivery.due).min();
    is_untold.then_some(first.unwrap_or(escalation.due))
}

/// Makes one try, and notes how it ended.
async fn send(parts: &SenderParts, book: &Arc<Book>, escalation: &Escalation, job: &Job, now: Timestamp) {
    let (act, notifier) = (job.act, job.notifier.as_str());
    let (Act::Send(index) | Act::Resolve(index)) = act;
    let letter = letter(escalation, &book.external_url);
    let occasion = if matches!(act, Act::Send(_)) { Occasion::Trigger } else { Occasion::Resolve };
    let (key, turn) = (key(escalation, index), turn(escalation, index));
    let result = match book.channels.get(notifier) {
        Some(channel) => channel.make(&Try { letter: &letter, occasion, key: &key, turn, now }).await,
        None => Err(Failure {
            why: "the config has no such notifier any more".to_owned(),
            permanent: true,
            retry_after: None,
            status: None,
        }),
    };
    tell(parts, escalation, occasion, notifier, &result);
    let (end, directory) = (parts.clock.now(), Arc::clone(book));
    parts.notifiers.heed(notifier, &result, end);
    let noted = parts.records.change_escalation(&escalation.id, move |escalation| {
        told(escalation, act, &result, end);
        !due(escalation, &directory.directory, &Quiet::default(), end).is_nothing()
    });
    if let Err(error) = noted.await {
        tracing::error!(escalation = %escalation.id, notifier, %error, "it cannot be noted how the message fared; it is sent again");
        tokio::time::sleep(AGAIN).await;
    }
}

fn tell(parts: &SenderParts, escalation: &Escalation, occasion: Occasion, notifier: &str, result: &Told) {
    let id = escalation.execution.as_ref().map(ExecutionId::as_str);
    let (escalation, runbook) = (&escalation.id, &escalation.runbook);
    match (result, occasion) {
        (Ok(remark), Occasion::Trigger) => {
            parts.metrics.escalated(notifier, Escalated::Sent);
            tracing::info!(%escalation, %runbook, execution_id = id, notifier, "people were told");
            if let Some(remark) = remark {
                tracing::error!(%escalation, %runbook, execution_id = id, notifier, why = remark, "not everybody could be told");
            }
        }
        (Ok(_), Occasion::Resolve) => {
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

#[cfg(test)]
mod tests;
