//! What would be decided, with nothing left of it: the very function that decides, on the very records, in a unit of
//! work that is refused at its end.
//!
//! May import: what intake may. Must never: keep, count or start anything, or take an id from those of the store.

use super::accept::{Intake, IntakeError, Options};
use super::decode::{self, Element};
use super::ruling::{Ground, planned, rule, trigger};
use crate::admit::late::Questions;
use crate::admit::{self, Subject};
use crate::model::{
    Alert, AlertStatus, DecidedAlert, Decision, Episode, EpisodeKey, Labels, Reason, Timestamp, Verdict,
};
use crate::routing::{self, Library};
use crate::store::records::{key, read, transact};
use crate::store::{CommitError, Ids, Txn};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// How many alerts one trial takes: while it lasts, webhooks wait.
const MAX_TRIED: usize = 1000;

/// What decisions would rest on if it were in force.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// With the mappings of the config only.
    pub options: Options,
    /// The runbooks.
    pub library: Arc<Library>,
}

/// What would be decided on an alert that fires now, and what must be asked of others before it begins.
#[derive(Debug)]
pub struct Explained {
    /// Without the gates that ask others.
    pub decision: Decision,
    /// What they ask; `None` where they ask nothing, or nobody can know what.
    pub questions: Option<Questions>,
    /// What webhooks told of this very label set.
    pub heard: Option<Heard>,
}

/// What webhooks told of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// The last one.
    pub at: Timestamp,
    /// Whether the alert has not resolved since.
    pub is_open: bool,
}

/// What a trial rests on.
struct Basis {
    options: Arc<Options>,
    library: Arc<Library>,
    /// As if it were then.
    at: Timestamp,
}

/// The alert `decision` was made on, as far as it is kept; `None` where it was about none.
pub fn replayed(decision: &Decision) -> Option<Element> {
    let fingerprint = decision.fingerprint?;
    // Of earlier versions only labels are kept; that it was resolved is in the code.
    let unknown = || DecidedAlert {
        status: match decision.reason {
            Reason::Resolved => AlertStatus::Resolved,
            _ => AlertStatus::Firing,
        },
        starts_at: decision.at,
        ends_at: None,
        annotations: Labels::new(),
        annotations_cut: true,
    };
    let DecidedAlert { status, starts_at, ends_at, annotations, .. } =
        decision.alert.clone().unwrap_or_else(unknown);
    Some(Element::Alert(Box::new(Alert {
        status,
        labels: decision.labels.clone(),
        annotations,
        starts_at,
        ends_at,
        generator_url: String::new(),
        external_url: String::new(),
        fingerprint,
    })))
}

impl Intake {
    /// What would be decided on `elements`, one after the other, at `at`; now, where absent. By `candidate`, where there
    /// is one, together with the mappings that people set; else by what is in force.
    ///
    /// # Errors
    /// [`IntakeError`], as for a body; and for more than a trial takes.
    pub async fn simulate(
        &self,
        elements: Arc<Vec<Element>>,
        at: Timestamp,
        candidate: Option<Candidate>,
    ) -> Result<Vec<Decision>, IntakeError> {
        if elements.len() > MAX_TRIED {
            return Err(IntakeError::TrialTooLarge { count: elements.len(), limit: MAX_TRIED });
        }
        let (options, library) = match candidate {
            Some(Candidate { options, library }) => (self.in_force().instead(options), library),
            None => self.current(),
        };
        let mut decisions: Vec<Decision> = self
            .try_out(Basis { options, library, at }, move |txn, ground| {
                elements.iter().map(|element| Ok(rule(txn, ground, element)?.1)).collect()
            })
            .await?;
        forget_executions(&mut decisions);
        Ok(decisions)
    }

    fn current(&self) -> (Arc<Options>, Arc<Library>) {
        let library = self.library.read().unwrap_or_else(PoisonError::into_inner);
        (self.options(), Arc::clone(&library))
    }

    /// What would be decided on an alert with these labels that fires now, by the rules for one of a body. One that is
    /// known goes on firing.
    ///
    /// # Errors
    /// What is wrong with the alert, within; [`IntakeError`] when the store cannot be read.
    pub async fn explain(
        &self,
        labels: &Labels,
        annotations: &Labels,
    ) -> Result<Result<Explained, String>, IntakeError> {
        let at = self.clock.now();
        let alert = match decode::fires(labels, annotations, at) {
            Ok(alert) => alert,
            Err(why) => return Ok(Err(why)),
        };
        let (options, library) = self.current();
        let explained = self.try_out(Basis { options, library, at }, move |txn, ground| {
            let before: Option<Episode> = read(txn, &key::episode(&EpisodeKey::of(&alert)))?;
            let questions = questions(ground, &alert);
            let heard = before.map(|it| Heard { at: it.last_seen, is_open: it.resolved_at.is_none() });
            let (_, decision) = rule(txn, ground, &Element::Alert(Box::new(alert.clone())))?;
            let mut decision = [decision];
            forget_executions(&mut decision);
            let [decision] = decision;
            Ok(Explained { decision, questions, heard })
        });
        explained.await.map(Ok)
    }

    /// What `work` answers in a unit of work that is refused at its end.
    async fn try_out<T: Send + 'static>(
        &self,
        basis: Basis,
        work: impl Fn(&mut dyn Txn, &Ground<'_>) -> Result<T, CommitError> + Send + 'static,
    ) -> Result<T, IntakeError> {
        let Basis { options, library, at } = basis;
        let (switch, now) = (self.board.read(), self.clock.now());
        let told = Arc::new(Mutex::new(None));
        let out = Arc::clone(&told);
        let tried: Result<(), CommitError> = transact(&*self.store, move |txn| {
            // Its own: those of the store only grow, and would never come back from a time that lies ahead.
            let ids = Ids::after(None);
            let ground = Ground { counted: at.max(now), ..options.ground(&library, &switch, &ids, at) };
            let answer = work(txn, &ground)?;
            *out.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
            Err(CommitError::Refused("nothing is to be left of it".to_owned()))
        })
        .await;
        let told = told.lock().unwrap_or_else(PoisonError::into_inner).take();
        let cause = match tried {
            Ok(()) => CommitError::Refused("a trial cannot be committed".to_owned()),
            Err(cause) => cause,
        };
        told.ok_or(IntakeError::Store(cause))
    }
}

/// None of those that would be made is ever there to be asked for.
fn forget_executions(decisions: &mut [Decision]) {
    let made: Vec<_> = decisions
        .iter()
        .filter(|decision| decision.verdict != Verdict::Skip)
        .filter_map(|decision| decision.execution_id.clone())
        .collect();
    for decision in decisions {
        decision.execution_id = decision.execution_id.take().filter(|id| !made.contains(id));
    }
}

/// What the execution that `alert` would become asks of others before it begins.
fn questions(ground: &Ground<'_>, alert: &Alert) -> Option<Questions> {
    let route = routing::route(alert, ground.rules, ground.library);
    let created = planned(ground, &route, trigger(alert), &BTreeMap::new())?.ok()?;
    let pinned = route.pinned()?;
    let runbook = &pinned.runbook;
    let subject = Subject {
        id: &created.id,
        runbook: &runbook.id,
        version: pinned.version,
        target: created.target.as_ref(),
        started_at: None,
    };
    let context = admit::context(&created.trigger, &created.inputs, &subject, serde_json::json!({}));
    let confirm = runbook.guard.settings.over(ground.guard).confirm;
    Questions::of(runbook, &created, &context, confirm, ground.has_alertmanager)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// As an earlier version kept it.
    fn old(reason: &str) -> Decision {
        serde_json::from_value(json!({
            "id": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "at": "2026-01-01T00:00:00Z", "verdict": "skip",
            "reason": reason, "message": "m", "alertname": "Down", "fingerprint": "00000000000000aa",
            "labels": { "alertname": "Down" }, "runbook": "act", "seen": 1,
            "last_seen": "2026-01-01T00:00:00Z", "gates": [],
        }))
        .unwrap()
    }

    #[test]
    fn of_a_record_of_an_earlier_version_nothing_is_invented() {
        for (reason, status) in [("disabled", AlertStatus::Firing), ("resolved", AlertStatus::Resolved)] {
            let decision = old(reason);
            assert!(decision.alert.is_none());
            let Some(Element::Alert(alert)) = replayed(&decision) else { panic!("it was on an alert") };
            assert_eq!((alert.status, alert.starts_at), (status, decision.at));
            assert!(alert.annotations.is_empty(), "it was selected by who knows what");
        }
        assert!(replayed(&Decision { fingerprint: None, ..old("invalid_alert") }).is_none());
    }
}
