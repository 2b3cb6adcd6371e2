//! A step that is another runbook: an execution of its own, begun, told to stop and heard of here.

use super::{Drive, attempts, header_of};
use crate::admit::{self, Request};
use crate::engine::registry::Input;
use crate::engine::transition;
use crate::engine::verb::{Actor, Ask, Verb};
use crate::engine::view;
use crate::journal::{AttemptResult, Created, Event, Parent, State, Trigger, TriggerKind};
use crate::model::{AttemptOutcome, ExecutionId, ExecutionStatus, Part, Reason, Timestamp};
use crate::runbook::{Kind, Mode};
use crate::store::records::Parked;
use std::collections::BTreeMap;
use std::time::Duration;

/// How deep executions may be nested.
const MAX_DEPTH: u32 = 8;

/// Why a step that is a runbook starts none.
pub(super) struct Refusal {
    /// The code, where there is one.
    pub(super) reason: Option<Reason>,
    /// In a sentence.
    pub(super) why: String,
}

impl From<String> for Refusal {
    fn from(why: String) -> Self {
        Self { reason: None, why }
    }
}

/// Whether a runbook in `mode` may be a step. One that nobody has promoted starts by people's hands only, whatever
/// names it.
fn may_run(mode: Mode, automatic: bool) -> Result<(), Reason> {
    match mode {
        Mode::Disabled => Err(Reason::Disabled),
        Mode::Shadow if automatic => Err(Reason::Shadow),
        Mode::Shadow | Mode::Approve | Mode::Auto => Ok(()),
    }
}

impl Drive {
    /// The execution the step at `index` starts.
    ///
    /// # Errors
    /// Why it cannot: a code where there is one, and a sentence.
    pub(super) fn child(
        &self,
        state: &State,
        index: usize,
        part: Part,
        attempt: u32,
        now: Timestamp,
    ) -> Result<Box<Created>, Refusal> {
        let step = &self.runbook.steps[index];
        let Kind::Runbook { id, inputs } = &step.kind else {
            return Err("the step is no runbook".to_owned().into());
        };
        let created = &state.created;
        let depth = created.parent.as_ref().map_or(0, |parent| parent.depth) + 1;
        if depth > MAX_DEPTH {
            return Err(format!("runbooks are nested deeper than {MAX_DEPTH}").into());
        }
        let pinned = self.shared.runbooks.current(id).ok_or_else(|| format!("there is no runbook {id}"))?;
        let automatic = created.acts_by_itself();
        may_run(pinned.runbook.mode, automatic).map_err(|reason| Refusal {
            reason: Some(reason),
            why: format!("runbook {id}: {}", reason.sentence()),
        })?;
        let context = view::context_of_part(&self.runbook, state, index, part);
        let mut given = BTreeMap::new();
        for (name, value) in inputs {
            let value = value.render(&context).map_err(|error| format!("input {name}: {error}"))?;
            given.insert(name.clone(), value);
        }
        let trigger = Trigger {
            kind: TriggerKind::Runbook,
            by: format!("execution:{}", self.id),
            reason: None,
            of: Some(self.id.clone()),
            ..created.trigger.clone()
        };
        let ulid = self.shared.ids.next(now);
        let request = Request {
            pinned: &pinned,
            trigger,
            given,
            env: BTreeMap::new(),
            range: None,
            id: ExecutionId::of(id, ulid),
            queue_deadline: Duration::ZERO,
            seed: ulid.random() as u64,
            instance: &created.instance,
            now,
        };
        let mut child = admit::plan(request).map_err(|denial| format!("runbook {id} refuses: {denial}"))?;
        self.lock_for(&mut child)?;
        let limit = u64::try_from(step.timeout.as_millis()).unwrap_or(u64::MAX);
        child.timeout_ms = child.timeout_ms.min(limit);
        let root = created.parent.as_ref().map_or(&self.id, |parent| &parent.root).clone();
        child.parent = Some(Parent { id: self.id.clone(), index, part, attempt, depth, root, automatic });
        Ok(Box::new(child))
    }

    /// It shares its parent's lock and slot; what it changes besides is held by the execution at the top.
    fn lock_for(&self, child: &mut Created) -> Result<(), Refusal> {
        let Some(lock) = child.lock.take() else { return Ok(()) };
        let held = self.shared.registry().hold_for_child(&self.id, &lock);
        match held {
            Ok(true) => child.lock = Some(lock),
            Ok(false) => {}
            Err(holder) => {
                let holder = holder.map_or_else(|| "another execution".to_owned(), |id| id.to_string());
                return Err(format!("{lock} is held by {holder}, and a step does not wait for that").into());
            }
        }
        Ok(())
    }

    /// Starts the executions that are durable now.
    pub(super) fn take_in(&self, children: &[Created]) {
        for child in children {
            let header = header_of(&State::new(Box::new(child.clone()), self.shared.clock.now()), None);
            self.shared.registry().take_in(&Parked::from(&header));
            self.shared.send(&child.id, Input::Start);
        }
    }

    /// Passes the word on: children end with their parent.
    pub(super) fn stop_children(&self) {
        for child in self.state.open_children() {
            let ask = Box::new(stop_by(&self.id));
            self.shared.send(&child, Input::Asked { ask, reply: None });
        }
    }

    /// Passes it on once more, to those it may not have reached before the daemon ended.
    pub(super) fn remind_children(&self) {
        for child in transition::doomed(&self.runbook, &self.state) {
            self.shared.send(&child, Input::Reminded { parent: self.id.clone() });
        }
    }

    /// What a parent's reminder is: a stop where none was heard. A second one would cut short what tidies up.
    pub(super) fn reminded(&self, parent: &ExecutionId) -> Option<Ask> {
        (self.state.stop.is_none() && self.state.ending.is_none()).then(|| stop_by(parent))
    }

    /// What the end of a child is for the step that started it.
    pub(super) fn child_ended(
        &self,
        child: &ExecutionId,
        status: ExecutionStatus,
        reason: Option<Reason>,
    ) -> Option<Event> {
        let mut open = self.state.steps.iter().enumerate().flat_map(|(index, step)| {
            step.open.iter().filter(|open| open.child.as_ref() == Some(child)).map(move |open| (index, open))
        });
        let (index, open) = open.next()?;
        let outcome = match status {
            ExecutionStatus::Succeeded => AttemptOutcome::Succeeded,
            ExecutionStatus::Stopped if self.state.deadline_passed => AttemptOutcome::TimedOut,
            ExecutionStatus::Stopped => AttemptOutcome::Stopped,
            ExecutionStatus::Failed if reason == Some(Reason::Timeout) => AttemptOutcome::TimedOut,
            ExecutionStatus::Failed if reason == Some(Reason::UnknownOutcome) => AttemptOutcome::Unknown,
            _ => AttemptOutcome::Failed,
        };
        let why = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
        let error = (outcome != AttemptOutcome::Succeeded).then(|| format!("{child} ended as {status}{why}"));
        let result = AttemptResult {
            child: Some(child.clone()),
            ..AttemptResult::plain(outcome, String::new(), error)
        };
        Some(attempts::finished(&self.state, index, open.part, open.attempt, result))
    }
}

fn stop_by(parent: &ExecutionId) -> Ask {
    let actor = Actor { subject: format!("execution:{parent}"), ..Actor::default() };
    Ask::new(Verb::Stop, actor, "its parent is to end")
}
