//! A person's word to an execution, from the request to the durable answer.

use super::Engine;
use super::registry::Input;
use super::verb::{self, Actor, Anew, Answer, Ask, Earlier, Verb};
use crate::journal::{AuditEntry, State};
use crate::model::{ExecutionId, ExecutionStatus, Timestamp};
use crate::runbook::Runbook;
use crate::store::records::{audit, create, last_anew, transact};
use crate::store::{CommitError, ReadError};
use std::sync::PoisonError;
use std::time::Duration;
use tokio::sync::oneshot;

/// Between two tries to reach an execution that the scheduler has not taken in yet.
const RETRY: Duration = Duration::from_millis(5);
/// How long a driver may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a verb was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum VerbError {
    /// No such execution.
    #[error("there is no execution {0}")]
    Unknown(ExecutionId),
    /// Its status does not allow it.
    #[error("the execution is {status}: {why}")]
    Conflict {
        /// Where it stands.
        status: ExecutionStatus,
        /// Why that does not allow it.
        why: String,
    },
    /// The request itself is wrong.
    #[error("{0}")]
    Invalid(String),
    /// This person may not.
    #[error("{0}")]
    Forbidden(String),
    /// The queue has no room for the execution it would start.
    #[error("the queue is full")]
    QueueFull,
    /// It is under way, but could not yet be made durable.
    #[error("it is under way, but the store has not taken it yet: {0}")]
    NotDurable(String),
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl VerbError {
    pub(super) fn from_answer(status: ExecutionStatus, answer: Answer) -> Self {
        match answer {
            Answer::Forbidden(why) => Self::Forbidden(why),
            Answer::Invalid(why) => Self::Invalid(why),
            Answer::Conflict(why) => Self::Conflict { status, why },
            Answer::Record(_) | Answer::AlreadySo | Answer::Anew(_) => {
                Self::Conflict { status, why: "it changed meanwhile; ask again".to_owned() }
            }
        }
    }
}

/// A verb carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controlled {
    /// The execution, or the new one the verb started.
    pub id: ExecutionId,
    /// Where it stands.
    pub status: ExecutionStatus,
}

/// What became of an execution that was to begin anew.
enum Begun {
    New(ExecutionId),
    /// It has begun before.
    Earlier(ExecutionId, ExecutionStatus),
    Conflict(String),
}

fn anew(state: &State, what: Anew, ask: &Ask, id: &ExecutionId, now: Timestamp) -> AuditEntry {
    AuditEntry {
        at: now,
        user: ask.actor.subject.clone(),
        action: if what == Anew::Rollback { "execution.rollback" } else { "execution.retry" },
        target: state.created.id.to_string(),
        reason: ask.reason.clone(),
        detail: [("began".to_owned(), id.to_string())].into(),
    }
}

impl Engine {
    /// Carries `ask` out on `id`, and answers when that is durable; a stop kills before it is.
    ///
    /// # Errors
    /// [`VerbError`] when it is unknown, its status does not allow it, or this person may not.
    pub async fn control(&self, id: &ExecutionId, ask: Ask) -> Result<Controlled, VerbError> {
        let asking = async {
            loop {
                if let Some(controlled) = self.try_once(id, &ask).await? {
                    return Ok(controlled);
                }
                if self.shared.registry().is_draining() {
                    return Err(VerbError::NotDurable("the daemon is going".to_owned()));
                }
                // It is durable but not taken in yet, or ended before it heard.
                self.shared.wake.notify_one();
                tokio::time::sleep(RETRY).await;
            }
        };
        let in_vain = "it did not answer in 10 s; is the disk full?".to_owned();
        tokio::time::timeout(PATIENCE, asking).await.unwrap_or(Err(VerbError::NotDurable(in_vain)))
    }

    /// Stops an execution: kills at once, and answers when the stop is durable.
    ///
    /// # Errors
    /// As [`Engine::control`].
    pub async fn stop(&self, id: &ExecutionId, actor: Actor, reason: &str) -> Result<Controlled, VerbError> {
        self.control(id, Ask::new(Verb::Stop, actor, reason)).await
    }

    /// Where `id` stands, as stored.
    ///
    /// # Errors
    /// [`VerbError::Unknown`], or what the store says.
    pub async fn status(&self, id: &ExecutionId) -> Result<ExecutionStatus, VerbError> {
        let header = self.shared.records.header(id.ulid()).await?.filter(|header| header.id == *id);
        header.map(|header| header.status).ok_or_else(|| VerbError::Unknown(id.clone()))
    }

    /// One try; `None` when nobody was there to hear it, or its driver ended before it heard.
    async fn try_once(&self, id: &ExecutionId, ask: &Ask) -> Result<Option<Controlled>, VerbError> {
        if self.status(id).await?.is_final() {
            return self.of_finished(id, ask).await.map(Some);
        }
        let (reply, answered) = oneshot::channel();
        self.shared.send(id, Input::Asked { ask: Box::new(ask.clone()), reply: Some(reply) });
        match answered.await {
            Ok(Ok(status)) => Ok(Some(Controlled { id: id.clone(), status })),
            Ok(Err(refused)) => Err(refused),
            Err(_) => Ok(None),
        }
    }

    async fn of_finished(&self, id: &ExecutionId, ask: &Ask) -> Result<Controlled, VerbError> {
        let (runbook, state) = self.shared.load(id).await.map_err(|unreadable| VerbError::Conflict {
            status: unreadable.state.map_or(ExecutionStatus::Failed, |state| state.status),
            why: unreadable.why,
        })?;
        match verb::answer(&runbook, &state, self.shared.clock.now(), ask) {
            Answer::AlreadySo => Ok(Controlled { id: id.clone(), status: state.status }),
            Answer::Anew(what) => self.start_anew(&runbook, &state, what, ask).await,
            answer => Err(VerbError::from_answer(state.status, answer)),
        }
    }

    async fn start_anew(
        &self,
        runbook: &Runbook,
        state: &State,
        what: Anew,
        ask: &Ask,
    ) -> Result<Controlled, VerbError> {
        if let Some(order) = self.shared.order(state, self.shared.clock.now()) {
            return Err(VerbError::Conflict { status: state.status, why: order.sentence() });
        }
        let now = self.shared.clock.now();
        // To take back what was done must stay possible; to do it once more is a new start.
        let frozen = self.shared.freeze_for_people(now).filter(|_| what == Anew::Retry);
        if let Some((freeze, until)) = frozen {
            let why = format!("frozen by {freeze:?} until {until}");
            return Err(VerbError::Conflict { status: state.status, why });
        }
        let limits = self.shared.limits.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if self.shared.queue.try_add(1, limits.queue_limit).is_err() {
            return Err(VerbError::QueueFull);
        }
        let ids = std::sync::Arc::clone(&self.shared.ids);
        let (runbook, state, ask, status) = (runbook.clone(), state.clone(), ask.clone(), state.status);
        // The id is drawn within the commit, so that ids are stored in their order and none is overlooked; and what
        // was begun before is looked for there, so that nothing is taken back twice, whoever asks at the same time.
        let begun = transact(&**self.shared.records.store(), move |txn| {
            let known = last_anew(txn, verb::forebear(&state), what.kind())?;
            let known = known.map(|known| {
                (verb::earlier(what, &state.created.id, &known.id, known.status), known.id, known.status)
            });
            match known {
                Some((Earlier::IsIt, id, status)) => return Ok(Begun::Earlier(id, status)),
                Some((Earlier::Conflict(why), ..)) => return Ok(Begun::Conflict(why)),
                Some((Earlier::Over, ..)) | None => {}
            }
            let ulid = ids.next(now);
            let id = ExecutionId::of(&runbook.id, ulid);
            let seed = ulid.random() as u64;
            let created =
                verb::created(&runbook, &state, what, &ask, id.clone(), seed, now, limits.queue_deadline);
            audit::append(txn, anew(&state, what, &ask, &id, now))?;
            create(txn, created, now)?;
            Ok(Begun::New(id))
        });
        let begun = begun.await;
        if !matches!(begun, Ok(Begun::New(_))) {
            self.shared.queue.remove(1);
        }
        match begun {
            Ok(Begun::New(id)) => {
                self.shared.wake.notify_one();
                Ok(Controlled { id, status: ExecutionStatus::Queued })
            }
            Ok(Begun::Earlier(id, status)) => Ok(Controlled { id, status }),
            Ok(Begun::Conflict(why)) => Err(VerbError::Conflict { status, why }),
            Err(CommitError::Read(error)) => Err(VerbError::Read(error)),
            Err(error) => Err(VerbError::NotDurable(error.to_string())),
        }
    }

    /// Puts new limits in force.
    pub fn reconfigure(&self, limits: super::Limits) {
        *self.shared.limits.lock().unwrap_or_else(PoisonError::into_inner) = limits;
    }
}
