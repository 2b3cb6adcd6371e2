//! What a round means to breakers and to the quarantine: asked and told within the round's own commit.
//!
//! An intent and the breaker's leave for it are one commit, and so are an outcome and the breaker's knowledge of
//! it: no crash can part them, and two executions cannot both be the one probe.

use super::Drive;
use super::think::Round;
use crate::admit::late as gates;
use crate::guard::{Admission, BreakerKey, Change, Outcome, Profile, Quarantine};
use crate::journal::{Created, Event, State, TriggerKind};
use crate::model::{
    Decision, DecisionId, ExecutionStatus, GateReport, Part, Reason, Role, Target, Timestamp, Verdict,
};
use crate::store::records::{breaker, guards as counts, late, quarantine};
use crate::store::{CommitError, Txn};
use std::collections::BTreeMap;
use std::sync::PoisonError;

/// What a commit must ask and tell.
#[derive(Clone)]
pub(super) struct Guards {
    profile: Profile,
    /// In the order of the events: what takes no time begins and ends in one round.
    asks: Vec<AskOrTell>,
    quarantine: Option<Quarantine>,
    /// Why it never begins, for those who ask why nothing was done.
    late: Option<Box<Decision>>,
    /// What is over, and whether it ever did anything.
    over: Option<(Box<Created>, bool)>,
}

#[derive(Clone)]
enum AskOrTell {
    Start(Start),
    Admit(Admit),
    Child(Child),
    Outcome(BreakerKey, String, Outcome),
}

#[derive(Clone)]
struct Start {
    key: BreakerKey,
    holder: String,
    target: Option<Target>,
}

#[derive(Clone)]
struct Admit {
    index: usize,
    part: Part,
    key: BreakerKey,
    holder: String,
}

/// What a step of an automatic execution starts: kept from what automation is kept from.
#[derive(Clone)]
struct Child {
    index: usize,
    part: Part,
    key: BreakerKey,
    holder: String,
    target: Option<Target>,
}

/// Why a round cannot be committed as it is.
#[derive(Debug, Clone)]
pub(super) enum Denied {
    /// It may not leave the queue.
    Start(Reason, String),
    /// This part of a step may not be tried.
    Part(usize, Part, Reason, String),
}

/// Whether it ends because a gate that others had to be asked for said no; then it has changed nothing.
fn is_late_denial(status: ExecutionStatus, reason: Option<Reason>) -> bool {
    status == ExecutionStatus::Rejected && reason.is_some_and(|reason| gates::LATE.contains(&reason))
}

/// Who is asked for, in a breaker's records.
fn holder(state: &State, index: usize, part: Part) -> String {
    let step = &state.created.steps[index].id;
    match part.item {
        None => format!("{}/{step}", state.created.id),
        Some(item) => format!("{}/{step}/{item}", state.created.id),
    }
}

impl Drive {
    /// The key of the breaker in front of the step at `index`, if it names one.
    ///
    /// # Errors
    /// A sentence: why there is no such key.
    pub(super) fn breaker_key(&self, state: &State, index: usize) -> Result<Option<BreakerKey>, String> {
        let Some(template) = &self.runbook.steps[index].breaker else { return Ok(None) };
        let context = crate::engine::view::context_of(&self.runbook, state);
        let text = template.render(&context).map_err(|error| format!("its breaker: {error}"))?;
        let key = BreakerKey::of_step(&self.runbook.id, &text, template.has_tags());
        key.map(Some).map_err(|error| error.to_string())
    }

    /// What the commit of `round`, which leads to `after`, must ask and tell.
    pub(super) fn guards(&self, round: &Round, after: &State, now: Timestamp) -> Guards {
        let limits = self.shared.limits.lock().unwrap_or_else(PoisonError::into_inner);
        let profile = limits.breakers.or_default(&self.runbook.breaker).clone();
        drop(limits);
        let (quarantine, late, over) = (None, None, None);
        let mut guards = Guards { profile, asks: Vec::new(), quarantine, late, over };
        let mut begun = BTreeMap::new();
        for event in &round.events {
            self.guard(&mut guards, &mut begun, event, after, now);
        }
        for child in round.children.iter().filter(|child| child.acts_by_itself()) {
            let Some(parent) = &child.parent else { continue };
            let key = BreakerKey::of_runbook(&child.runbook, child.target.as_ref());
            let (holder, target) = (child.id.to_string(), child.target.clone());
            let child = Child { index: parent.index, part: parent.part, key, holder, target };
            guards.asks.push(AskOrTell::Child(child));
        }
        guards
    }

    /// `begun` are the breakers of what begins in this round.
    fn guard(
        &self,
        guards: &mut Guards,
        begun: &mut BTreeMap<(usize, Part), String>,
        event: &Event,
        after: &State,
        now: Timestamp,
    ) {
        let created = &after.created;
        let of_runbook = || BreakerKey::of_runbook(&created.runbook, created.target.as_ref());
        // A child's outcome is its parent's step's; taking back says nothing of whether it helps.
        let counts = created.parent.is_none() && created.trigger.kind != TriggerKind::Rollback;
        match event {
            // A person who starts something has looked; automation has not.
            Event::Started { .. } if created.is_automatic() => {
                let (holder, target) = (created.id.to_string(), created.target.clone());
                guards.asks.push(AskOrTell::Start(Start { key: of_runbook(), holder, target }));
            }
            Event::StepIntended { step, part, breaker: Some(text), .. } => {
                let Some((index, key)) = self.step_breaker(after, step, text) else { return };
                begun.insert((index, *part), text.clone());
                let holder = holder(after, index, *part);
                guards.asks.push(AskOrTell::Admit(Admit { index, part: *part, key, holder }));
            }
            Event::AttemptFinished { step, part, result, .. } if part.role == Role::Main => {
                let Some(index) = self.state.index_of(step) else { return };
                let before = || self.state.steps[index].open_of(*part)?.breaker.clone();
                let Some(text) = begun.remove(&(index, *part)).or_else(before) else { return };
                if let (Some((index, key)), Some(outcome)) =
                    (self.step_breaker(after, step, &text), Outcome::of_attempt(result.outcome))
                {
                    guards.asks.push(AskOrTell::Outcome(key, holder(after, index, *part), outcome));
                }
            }
            Event::Finished { status, reason, .. } => {
                guards.late = self.late_decision(after, *status, *reason, now).map(Box::new);
                let acted = after.started_at.is_some() && !is_late_denial(*status, *reason);
                guards.over = Some((created.clone(), acted));
                if counts {
                    let outcome = Outcome::of_execution(*status, *reason);
                    guards.asks.push(AskOrTell::Outcome(of_runbook(), created.id.to_string(), outcome));
                }
                if let (ExecutionStatus::RollbackFailed, Some(target)) = (status, &created.target) {
                    guards.quarantine = Some(Quarantine {
                        target: target.clone(),
                        runbook: created.runbook.clone(),
                        execution: created.id.clone(),
                        at: now,
                        reason: after.message.clone().unwrap_or_else(|| "its rollback failed".to_owned()),
                    });
                }
            }
            _ => {}
        }
    }

    /// The decision by which an execution that an alert asked for never begins; none where a person or the end of its
    /// alert is why.
    fn late_decision(
        &self,
        after: &State,
        status: ExecutionStatus,
        reason: Option<Reason>,
        now: Timestamp,
    ) -> Option<Decision> {
        let (created, reason) = (&after.created, reason?);
        let unbegun = matches!(reason, Reason::QueueExpired | Reason::BreakerOpen | Reason::Quarantined)
            && after.started_at.is_none();
        if !created.is_automatic() || !(unbegun || is_late_denial(status, Some(reason))) {
            return None;
        }
        let message = after.message.clone().unwrap_or_else(|| reason.sentence().to_owned());
        let mut gates: Vec<GateReport> =
            self.first_answers.iter().flat_map(|(_, reports)| reports).cloned().collect();
        if !gates.iter().any(|report| report.reason == Some(reason)) {
            gates.push(gates::denied(reason, &message));
        }
        Some(Decision {
            id: DecisionId::of(self.shared.ids.next(now)),
            at: now,
            verdict: Verdict::Skip,
            reason,
            message,
            alertname: created.trigger.alertname.clone().unwrap_or_default(),
            fingerprint: created.trigger.fingerprint,
            labels: created.trigger.labels.clone(),
            alert: None,
            runbook: Some(created.runbook.clone()),
            execution_id: Some(created.id.clone()),
            first: created.decision.clone(),
            plan: Vec::new(),
            seen: 1,
            last_seen: now,
            gates,
        })
    }

    fn step_breaker(
        &self,
        state: &State,
        step: &crate::model::StepId,
        text: &str,
    ) -> Option<(usize, BreakerKey)> {
        let index = state.index_of(step)?;
        let templated = self.runbook.steps[index].breaker.as_ref().is_some_and(|breaker| breaker.has_tags());
        Some((index, BreakerKey::of_step(&self.runbook.id, text, templated).ok()?))
    }
}

impl Guards {
    /// Asks and tells; what was denied is given, and then nothing may be written.
    pub(super) fn apply(
        &self,
        txn: &mut dyn Txn,
        now: Timestamp,
    ) -> Result<Result<Vec<(String, Change)>, Denied>, CommitError> {
        let mut changes = Vec::new();
        for ask in &self.asks {
            match ask {
                AskOrTell::Outcome(key, holder, outcome) => {
                    let change = breaker::record(txn, key, &self.profile, holder, *outcome, now)?;
                    changes.extend(change.map(|change| (key.as_str().to_owned(), change)));
                }
                AskOrTell::Start(Start { key, holder, target }) => {
                    if let Some(why) = quarantined(txn, target.as_ref())? {
                        return Ok(Err(Denied::Start(Reason::Quarantined, why)));
                    }
                    if let Admission::No { retry_at } = breaker::admit(txn, key, &self.profile, holder, now)?
                    {
                        return Ok(Err(Denied::Start(Reason::BreakerOpen, open(key, retry_at))));
                    }
                }
                AskOrTell::Admit(Admit { index, part, key, holder }) => {
                    if let Admission::No { retry_at } = breaker::admit(txn, key, &self.profile, holder, now)?
                    {
                        let (reason, why) = (Reason::BreakerOpen, open(key, retry_at));
                        return Ok(Err(Denied::Part(*index, *part, reason, why)));
                    }
                }
                AskOrTell::Child(child) => {
                    if let Some((reason, why)) = child.denied(txn, now)? {
                        return Ok(Err(Denied::Part(child.index, child.part, reason, why)));
                    }
                }
            }
        }
        if let Some(quarantined) = &self.quarantine {
            quarantine::put(txn, quarantined)?;
        }
        if let (Some(decision), Some((created, _))) = (&self.late, &self.over) {
            late::denied(txn, created, decision)?;
        }
        match &self.over {
            Some((created, true)) => counts::ended(txn, created, now)?,
            // What never left the queue, or was denied then, did nothing, and takes no place in any cap.
            Some((created, false)) => counts::release(txn, created)?,
            None => {}
        }
        Ok(Ok(changes))
    }
}

impl Child {
    /// Why it may not begin, if it may not. Its outcome is its parent's, so it is nobody's probe.
    fn denied(&self, txn: &mut dyn Txn, now: Timestamp) -> Result<Option<(Reason, String)>, CommitError> {
        if let Some(why) = quarantined(txn, self.target.as_ref())? {
            return Ok(Some((Reason::Quarantined, why)));
        }
        let record = breaker::get(txn, self.key.as_str())?;
        let admission = record.map(|record| record.breaker.would_admit(&self.holder, now));
        Ok(match admission {
            Some(Admission::No { retry_at }) => Some((Reason::BreakerOpen, open(&self.key, retry_at))),
            Some(Admission::Yes) | None => None,
        })
    }
}

/// That `target` is quarantined, where it is.
fn quarantined(txn: &mut dyn Txn, target: Option<&Target>) -> Result<Option<String>, CommitError> {
    let Some(target) = target else { return Ok(None) };
    let quarantined = quarantine::get(txn, target)?;
    Ok(quarantined.map(|quarantined| format!("{target} is quarantined since {}", quarantined.at)))
}

fn open(key: &BreakerKey, retry_at: Option<Timestamp>) -> String {
    match retry_at {
        Some(at) => format!("the breaker {} is open until {at}", key.as_str()),
        None => format!("the breaker {} is open, or another attempt is its probe", key.as_str()),
    }
}
