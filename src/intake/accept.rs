//! A whole request: decode, decide everything in one unit of work, commit, then tell what was decided.

use super::announcement::Announcement;
use super::decode::{self, Element, MalformedBody};
use super::held::Flapping;
use super::mappings::{InForce, SetMapping};
use super::ruling::{Ground, rule};
use super::timetable::Timetable;
use crate::guard::{Board, Freeze, KillSwitch, Profiles, Settings, StormLimit};
use crate::model::{Clock, ExecutionId, RunbookId, Timestamp};
use crate::routing::{Library, Rules};
use crate::store::Ids;
use crate::store::records::{QueueCount, transact};
use crate::store::{CommitError, Store};
use crate::telemetry::Metrics;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::Notify;

/// Why a request was not taken. Nothing of it remains.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// It is not a webhook.
    #[error(transparent)]
    Malformed(#[from] MalformedBody),
    /// More than a trial may hold the store's writer for.
    #[error("the body has {count} alerts, and a trial takes {limit}: send fewer at a time")]
    TrialTooLarge {
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// The queue has no room for all it would start.
    #[error("the queue holds {queued} executions and has no room for {wanted} more, the limit is {limit}")]
    QueueFull {
        /// Queued now.
        queued: usize,
        /// What the request would add.
        wanted: usize,
        /// `automation.queue_limit`.
        limit: usize,
    },
    /// It could not be made durable.
    #[error("the alerts could not be made durable")]
    Store(#[source] CommitError),
}

/// The part of the config intake needs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Who selects a runbook.
    pub rules: Rules,
    /// An episode without a delivery for so long is over.
    pub episode_ttl: Duration,
    /// How long an execution may wait in the queue.
    pub queue_deadline: Duration,
    /// How many may wait.
    pub queue_limit: usize,
    /// The profiles of breakers.
    pub breakers: Profiles,
    /// The guards of runbooks that say nothing else.
    pub guard: Settings,
    /// What makes a storm; `None` where that guard is off.
    pub storm: Option<StormLimit>,
    /// When nothing is started.
    pub freezes: Vec<Freeze>,
    /// Whether an Alertmanager is configured, which is then asked whether alerts still fire.
    pub has_alertmanager: bool,
    /// This instance's name.
    pub instance: String,
}

impl Options {
    /// What decisions at `now` rest on.
    pub(super) fn ground<'g>(
        &'g self,
        library: &'g Library,
        switch: &'g KillSwitch,
        ids: &'g Ids,
        now: Timestamp,
    ) -> Ground<'g> {
        Ground {
            rules: &self.rules,
            library,
            breakers: &self.breakers,
            switch,
            guard: &self.guard,
            storm: self.storm,
            freezes: &self.freezes,
            has_alertmanager: self.has_alertmanager,
            ids,
            now,
            counted: now,
            episode_ttl: self.episode_ttl,
            queue_deadline: self.queue_deadline,
            instance: &self.instance,
        }
    }
}

/// A request that is durable.
#[derive(Debug)]
pub struct Accepted {
    /// When it was received.
    pub received_at: Timestamp,
    /// One for each element, in order.
    pub decisions: Vec<Announcement>,
    /// How many alerts the sender left out.
    pub truncated: u64,
}

/// Takes webhook bodies.
pub struct Intake {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ids: Arc<Ids>,
    pub(super) library: Arc<RwLock<Arc<Library>>>,
    in_force: RwLock<InForce>,
    pub(super) queue: Arc<QueueCount>,
    pub(super) wake: Arc<Notify>,
    pub(super) metrics: Metrics,
    pub(super) board: Arc<Board>,
    /// Held while the mappings of people are changed, so that commits and what is in force keep one order.
    pub(super) changing: tokio::sync::Mutex<()>,
    pub(super) timetable: Timetable,
    flapping: Flapping,
}

impl Intake {
    /// An intake that writes to `store` and rings `wake` when the engine has something to look at.
    #[expect(clippy::too_many_arguments, reason = "called once, by the composition root")]
    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        ids: Arc<Ids>,
        library: Arc<RwLock<Arc<Library>>>,
        options: Options,
        queue: Arc<QueueCount>,
        wake: Arc<Notify>,
        metrics: Metrics,
        board: Arc<Board>,
    ) -> Self {
        let in_force = RwLock::new(InForce::of(options));
        let (changing, timetable, flapping) = Default::default();
        Self {
            store,
            clock,
            ids,
            library,
            in_force,
            queue,
            wake,
            metrics,
            board,
            changing,
            timetable,
            flapping,
        }
    }

    /// Puts new options in force for the next request. The mappings that people set stay before those of the options.
    pub fn reconfigure(&self, options: Options) {
        self.in_force.write().unwrap_or_else(PoisonError::into_inner).reconfigure(options);
        self.warn_of_lost_mappings();
    }

    /// The options in force, the mappings that people set among them.
    pub fn options(&self) -> Arc<Options> {
        self.in_force().options
    }

    /// How many alerts are left alone because they flap, as far as they were delivered since the start.
    pub fn held_as_flapping(&self) -> usize {
        self.flapping.count(self.options().episode_ttl, self.clock.now())
    }

    pub(super) fn in_force(&self) -> InForce {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn put_in_force(&self, set: Vec<SetMapping>) {
        self.in_force.write().unwrap_or_else(PoisonError::into_inner).put(set);
    }

    /// Decides every alert of `body`, durably, all or nothing.
    ///
    /// # Errors
    /// [`IntakeError`]; then nothing of the request remains.
    ///
    /// # Cancel safety
    /// Dropped half-way, the request may still be accepted; a second delivery then changes nothing.
    pub async fn accept(&self, body: &[u8]) -> Result<Accepted, IntakeError> {
        let now = self.clock.now();
        let decode::Body { alerts, truncated } = decode::decode(body, now)?;
        if truncated > 0 {
            tracing::warn!(
                truncated,
                "the sender left alerts out: set max_alerts to 0, or group by more labels"
            );
        }
        self.count(&alerts);
        let decisions = self.commit(alerts, now).await?;
        self.flapping.note(&decisions, now);
        for decision in &decisions {
            self.metrics.decision_made(decision.verdict, decision.reason);
            tracing::info!(
                alertname = decision.alertname,
                status = decision.status,
                verdict = decision.verdict.as_str(),
                reason = decision.reason.as_str(),
                runbook = decision.runbook.as_ref().map(RunbookId::as_str),
                execution_id = decision.execution_id.as_ref().map(ExecutionId::as_str),
                "alert decided"
            );
        }
        if !decisions.is_empty() {
            self.wake.notify_one();
        }
        Ok(Accepted { received_at: now, decisions, truncated })
    }

    fn count(&self, alerts: &[Element]) {
        for element in alerts {
            match element {
                Element::Alert(alert) => self.metrics.alert_received(Some(alert.status)),
                Element::Invalid { why, .. } => {
                    tracing::debug!(why, "an element of the webhook is not an alert");
                    self.metrics.alert_received(None);
                }
            }
        }
    }

    async fn commit(&self, alerts: Vec<Element>, now: Timestamp) -> Result<Vec<Announcement>, IntakeError> {
        if alerts.is_empty() {
            return Ok(Vec::new());
        }
        let options = self.options();
        let library = Arc::clone(&self.library.read().unwrap_or_else(PoisonError::into_inner));
        let switch = self.board.read();
        let (ids, queue) = (Arc::clone(&self.ids), Arc::clone(&self.queue));
        let full = Arc::new(std::sync::Mutex::new(None));
        let told = Arc::clone(&full);
        let reserved = Arc::new(AtomicUsize::new(0));
        let (held, kept) = (Arc::clone(&queue), Arc::clone(&reserved));
        let result = transact(&*self.store, move |txn| {
            // Called again after a conflict, the work gives back what it had reserved.
            queue.remove(reserved.swap(0, Ordering::SeqCst));
            let ground = options.ground(&library, &switch, &ids, now);
            let ruled =
                alerts.iter().map(|element| rule(txn, &ground, element).map(|(announced, _)| announced));
            let decisions: Vec<Announcement> = ruled.collect::<Result<_, _>>()?;
            let wanted = decisions.iter().filter(|decision| decision.started().is_some()).count();
            let limit = options.queue_limit;
            if let Err(queued) = queue.try_add(wanted, limit) {
                *told.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(IntakeError::QueueFull { queued, wanted, limit });
                return Err(CommitError::Refused("the queue is full".to_owned()));
            }
            reserved.store(wanted, Ordering::SeqCst);
            Ok(decisions)
        })
        .await;
        result.map_err(|cause| {
            // A work that said yes can still fail to be written: what it reserved would be lost for ever.
            held.remove(kept.swap(0, Ordering::SeqCst));
            full.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or(IntakeError::Store(cause))
        })
    }
}
