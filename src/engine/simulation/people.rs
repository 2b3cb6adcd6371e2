//! People: what they say to an execution, through the engine as the API does, and what they are answered.
//!
//! May import: `engine`, `journal`, `model`, `store`. Must never: judge; that is `check`.

use super::life::Life;
use super::plan::{PEOPLE, Whom, Word, word};
use super::random::Random;
use super::time::Moment;
use crate::engine::VerbError;
use crate::engine::verb::{Actor, Ask, Verb};
use crate::journal::State;
use crate::model::{ExecutionId, ExecutionStatus, StepId, StepStatus};
use crate::store::records::{Header, Records, key};
use crate::store::{Scan, Store};
use std::sync::Arc;
use std::time::Duration;

/// How often somebody comes to one that is held before they have enough of it.
const VISITS: u64 = 400;

/// One thing that was said and acknowledged.
#[derive(Debug, Clone)]
pub(super) struct Said {
    /// To which execution.
    pub(super) to: ExecutionId,
    /// What was asked.
    pub(super) verb: Verb,
    /// Who asked.
    pub(super) who: &'static str,
    /// The step that was named.
    pub(super) step: Option<StepId>,
    /// What a change was to.
    pub(super) value: Option<String>,
    /// When the answer came.
    pub(super) at: Moment,
    /// The execution that began by it.
    pub(super) new: Option<ExecutionId>,
}

impl Said {
    /// Whether it was that the execution must end.
    pub(super) fn is_stop(&self) -> bool {
        matches!(self.verb, Verb::Stop | Verb::Rollback) && self.new.is_none()
    }
}

impl Life {
    fn records(&self) -> Records {
        Records::new(Arc::clone(&self.disk) as Arc<dyn Store>)
    }

    /// Lets somebody say `word` of the execution `id`; false when it must be said later.
    pub(super) async fn hear_out(&self, id: &ExecutionId, word: Word) -> bool {
        // Of one that is not there nothing can be wanted; that is no reason to wait for it.
        let Some(id) = self.meant(id, word.whom).await else { return true };
        let answered = self.say(&id, word).await;
        if let Some(later) = word.again {
            tokio::time::sleep(Duration::from_millis(later)).await;
            return self.say(&id, word).await;
        }
        answered
    }

    async fn meant(&self, id: &ExecutionId, whom: Whom) -> Option<ExecutionId> {
        let kind = match whom {
            Whom::Itself => return Some(id.clone()),
            Whom::Child => {
                let all = Scan { prefix: b"x/".to_vec(), after: None, reverse: true, limit: usize::MAX };
                let all = self.disk.scan(all).await.ok()?;
                let mut headers = all.iter().filter_map(|(_, stored)| serde_json::from_slice(stored).ok());
                let is_child =
                    |header: &Header| header.parent.as_ref().is_some_and(|parent| parent.root == *id);
                return headers.find(is_child).map(|header| header.id);
            }
            Whom::Anew(crate::journal::TriggerKind::Rollback) => "rollback",
            Whom::Anew(_) => "retry",
        };
        let stored = self.disk.get(&key::anew(id.ulid(), kind)).await.ok()??;
        serde_json::from_slice(&stored).ok()
    }

    /// Where `id` stands, as far as a person can see it.
    async fn seen(&self, id: &ExecutionId) -> Option<State> {
        State::replay(self.records().journal(id, 0, usize::MAX).await.ok()?).ok()
    }

    /// Says it once; false when there was no answer to it.
    async fn say(&self, id: &ExecutionId, word: Word) -> bool {
        let (who, roles) = PEOPLE[word.who];
        let roles = roles.iter().map(|role| (*role).to_owned()).collect();
        let mut ask = Ask::new(word.verb, Actor { subject: who.to_owned(), roles }, "enough");
        ask.step = word.step.map(|step| StepId::new(&format!("s{step}")).unwrap());
        let mut value = None;
        match word.verb {
            Verb::Modify if word.step.is_some() => {
                ask.args = Some(vec![format!("x{}", word.digit)]);
                value = ask.args.as_ref().map(|args| args[0].clone());
            }
            Verb::Modify => {
                // One in ten does not fit the input's pattern.
                let to = if word.digit == 0 { "y".to_owned() } else { format!("x{}", word.digit) };
                value = Some(to.clone());
                ask.inputs.insert("x".to_owned(), to);
            }
            Verb::Approve if who == "eve" => ask.hash = Some("0".repeat(64)),
            Verb::Approve if word.digit > 3 => ask.hash = self.shown(id, ask.step.as_ref()).await,
            _ => {}
        }
        let (verb, step) = (ask.verb, ask.step.clone());
        match self.engine.control(id, ask).await {
            Ok(controlled) => {
                let new = (controlled.id != *id).then_some(controlled.id);
                let (to, at) = (id.clone(), self.clock.moment());
                self.memory.lock().unwrap().said.push(Said { to, verb, who, step, value, at, new });
                true
            }
            // It was heard, or it is too late, or it is not for them.
            Err(
                VerbError::NotDurable(_)
                | VerbError::Conflict { .. }
                | VerbError::Invalid(_)
                | VerbError::Forbidden(_)
                | VerbError::QueueFull,
            ) => true,
            Err(VerbError::Unknown(_) | VerbError::Read(_)) => false,
        }
    }

    /// The hash of the plan that waits for consent.
    async fn shown(&self, id: &ExecutionId, step: Option<&StepId>) -> Option<String> {
        let state = self.seen(id).await?;
        let mut steps = state.created.steps.iter().zip(&state.steps);
        let waits = |status| status == StepStatus::Waiting;
        let shown = steps.find_map(|(head, seen)| {
            let is_meant = step.is_none_or(|step| *step == head.id);
            seen.approval.as_ref().filter(|_| is_meant && waits(seen.status))
        })?;
        Some(shown.hash.clone())
    }

    /// Somebody looks after those that wait for people; whoever is still held after many visits is ended.
    pub(super) async fn visit(&self, live: &[Header], round: u64) {
        for header in live {
            let mut random =
                Random::of(self.random.clone().below(u64::MAX), &format!("{} {round}", header.id));
            let verbs: &[Verb] = match header.status {
                ExecutionStatus::Paused if round < VISITS => &[Verb::Stop],
                ExecutionStatus::Paused => {
                    &[Verb::Resume, Verb::Resume, Verb::Retry, Verb::Skip, Verb::Rollback, Verb::Stop]
                }
                ExecutionStatus::AwaitingApproval => &[Verb::Approve, Verb::Approve, Verb::Reject],
                ExecutionStatus::Running => &[Verb::Acknowledge],
                _ => continue,
            };
            let mut word = Word { whom: Whom::Itself, ..word(&mut random, verbs) };
            if header.status == ExecutionStatus::Paused {
                let failed = self
                    .seen(&header.id)
                    .await
                    .and_then(|state| state.steps.iter().position(|step| step.has_failed()));
                word.step = failed.filter(|_| matches!(word.verb, Verb::Retry | Verb::Skip));
            }
            self.hear_out(&header.id, word).await;
        }
    }
}
