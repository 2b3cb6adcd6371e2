//! Step 3 of an alert's way: may this start now? Every gate, in order, and the first denial decides.
//!
//! In: a [`Case`], that is the alert (or a due time of a schedule), its episode and what routing selected. Out: a [`Ruling`] that holds
//! the answer of *every* gate. Whatever decides about an alert calls [`decide`], so answers cannot differ.
//! Pure. May import: `model`, `runbook`, `routing`, `journal`, `guard`. Must never: read the store or the clock, or
//! start anything. New gate: one file, one line in [`GATES`], one reason code.

mod context;
mod fix;
mod gate;
pub mod late;
mod prepare;

pub use context::{Subject, context, context_with};
pub use fix::{fix, fix_of};
pub use prepare::{Denial, Request, plan};

use crate::guard::{Breaker, Freeze, Order, Quarantine, Runs, Settings, Storm, StormLimit, Targets};
use crate::journal::Created;
use crate::model::{Alert, Episode, ExecutionId, GateReport, GateVerdict, Reason, Timestamp, Verdict, after};
use crate::routing::Route;
use crate::runbook::Mode;
use serde_json::{Map, Value};
use std::time::Duration;

/// What is decided on.
#[derive(Debug)]
pub struct Case<'c> {
    /// The alert.
    pub alert: &'c Alert,
    /// What is decided on instead, where it is no alert: then `alert` only holds what gates look at besides.
    pub occasion: Option<&'c Occasion<'c>>,
    /// What is known of it: its open episode, or its last one.
    pub episode: Option<&'c Episode>,
    /// What routing selected.
    pub route: &'c Route,
    /// The execution it would become, or why it cannot; `None` where routing selected nothing.
    pub plan: Option<&'c Result<Created, Denial>>,
    /// The strictest order of the kill switch that covers it.
    pub order: Option<&'c Order>,
    /// The quarantine of the plan's target, if it is in one.
    pub quarantine: Option<&'c Quarantine>,
    /// The breaker of the plan's runbook and target; `None` while it is closed without a failure.
    pub breaker: Option<&'c Breaker>,
    /// What the guards know that count and look at the clock.
    pub guards: Guards<'c>,
    /// Whether an Alertmanager is configured.
    pub has_alertmanager: bool,
    /// Now.
    pub now: Timestamp,
    /// An episode without a delivery for so long is over.
    pub episode_ttl: Duration,
}

/// A due time of a schedule.
#[derive(Debug)]
pub struct Occasion<'c> {
    /// The schedule's name.
    pub schedule: &'c str,
    /// When it was due.
    pub due: Timestamp,
    /// How late it may be, where it is later than that.
    pub overdue: Option<Duration>,
    /// The execution of an earlier due time that still lives.
    pub live: Option<&'c ExecutionId>,
}

/// What the guards know that count and look at the clock.
#[derive(Debug, Clone, Copy)]
pub struct Guards<'c> {
    /// What is in force for the selected runbook; the config's where none is.
    pub settings: &'c Settings,
    /// The starts on the plan's target.
    pub runs: &'c Runs,
    /// The targets the runbook was started on.
    pub targets: &'c Targets,
    /// What makes a storm, and how many episodes began, this alert's included; `None` where that guard is off.
    pub storm: Option<(StormLimit, &'c Storm)>,
    /// All freezes.
    pub freezes: &'c [Freeze],
    /// When the alert changed, this delivery included.
    pub changes: &'c [Timestamp],
    /// When they are looked at: now, but for a trial of the past, which knows the counts of now only.
    pub counted: Timestamp,
}

impl Case<'_> {
    /// The episode this alert continues, if it is still open.
    pub fn open_episode(&self) -> Option<&Episode> {
        open_episode(self.episode, self.now, self.episode_ttl)
    }

    /// The answer of a guard that has nothing to ask: no runbook, or an episode that has been counted.
    fn not_asked(&self) -> Option<Answer> {
        let Some(pinned) = self.route.pinned() else { return Some(Answer::off("no runbook is selected")) };
        let counted = self.open_episode().is_some_and(|episode| episode.would_have_run);
        // Asked again, the guards would count what they let pass against itself.
        (counted && pinned.runbook.mode == crate::runbook::Mode::Shadow)
            .then(|| Answer::off("it would have run for this episode already, and is counted once"))
    }

    /// What a guard that counts starts is asked for; else its answer.
    fn to_count(&self) -> Result<&Created, Answer> {
        if let Some(answer) = self.not_asked() {
            return Err(answer);
        }
        match self.plan {
            Some(Ok(created)) => Ok(created),
            Some(Err(Denial::Input(_) | Denial::Target(_))) => {
                Err(Answer::off("the target is not known, see invalid_input and invalid_target"))
            }
            None => Err(Answer::off("no runbook is selected")),
        }
    }
}

/// The episode a delivery at `now` continues: the one known, if it is open and was heard of within `ttl`.
pub fn open_episode(episode: Option<&Episode>, now: Timestamp, ttl: Duration) -> Option<&Episode> {
    episode.filter(|episode| episode.resolved_at.is_none() && now < after(episode.last_seen, ttl))
}

/// Whether a firing alert began before the episode known of it ended: an old delivery.
pub fn is_stale(alert: &Alert, episode: &Episode) -> bool {
    // The beginnings are both by the sender's clock; the end may have been cut at ours, which can be behind.
    episode.resolved_at.is_some_and(|ended| alert.starts_at < ended || alert.starts_at <= episode.starts_at)
}

/// One gate's answer before it has the gate's name.
#[derive(Debug)]
pub struct Answer {
    verdict: GateVerdict,
    message: String,
    detail: Map<String, Value>,
}

impl Answer {
    fn pass(message: impl Into<String>) -> Self {
        Self { verdict: GateVerdict::Pass, message: message.into(), detail: Map::new() }
    }

    fn deny(message: impl Into<String>) -> Self {
        Self { verdict: GateVerdict::Deny, message: message.into(), detail: Map::new() }
    }

    fn off(message: impl Into<String>) -> Self {
        Self { verdict: GateVerdict::Off, message: message.into(), detail: Map::new() }
    }

    fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.detail.insert(name.to_owned(), value.into());
        self
    }
}

/// A gate: its name, which is the code it denies with, and its question.
type Gate = (Reason, fn(&Case<'_>) -> Answer);

/// The gates, in the order in which the first denial decides.
pub const GATES: &[Gate] = &[
    (Reason::Resolved, gate::resolved::ask),
    (Reason::Stale, gate::stale::ask),
    (Reason::Repeat, gate::repeat::ask),
    (Reason::NoRunbook, gate::no_runbook::ask),
    (Reason::UnknownRunbook, gate::unknown_runbook::ask),
    (Reason::NotAllowed, gate::not_allowed::ask),
    (Reason::Disabled, gate::disabled::ask),
    (Reason::Aborted, gate::aborted::ask),
    (Reason::Halted, gate::halted::ask),
    (Reason::Draining, gate::draining::ask),
    (Reason::Frozen, gate::frozen::ask),
    (Reason::Storm, gate::storm::ask),
    (Reason::Flapping, gate::flapping::ask),
    (Reason::Quarantined, gate::quarantined::ask),
    (Reason::Cooldown, gate::cooldown::ask),
    (Reason::AttemptsExhausted, gate::attempts_exhausted::ask),
    (Reason::BreakerOpen, gate::breaker_open::ask),
    (Reason::TooManyTargets, gate::too_many_targets::ask),
    (Reason::InvalidInput, gate::invalid_input::ask),
    (Reason::InvalidTarget, gate::invalid_target::ask),
    (Reason::Shadow, gate::shadow::ask),
];

/// What was decided, with every gate's answer.
#[derive(Debug)]
pub struct Ruling {
    /// Execute, ask people first, or skip.
    pub verdict: Verdict,
    /// The first denial, or `matched`.
    pub reason: Reason,
    /// The sentence of the gate that decided.
    pub message: String,
    /// All answers, in order.
    pub gates: Vec<GateReport>,
}

/// Asks every gate.
pub fn decide(case: &Case<'_>) -> Ruling {
    let early = GATES.iter().map(|(name, ask)| {
        let Answer { verdict, message, detail } = ask(case);
        let reason = (verdict == GateVerdict::Deny).then_some(*name);
        GateReport { gate: *name, verdict, reason, message, detail }
    });
    let gates: Vec<GateReport> = early.chain(late::announced(case)).collect();
    match gates.iter().find(|report| report.verdict == GateVerdict::Deny) {
        Some(denial) => {
            let (reason, message) = (denial.gate, denial.message.clone());
            Ruling { verdict: Verdict::Skip, reason, message, gates }
        }
        None => {
            let message = Reason::Matched.sentence().to_owned();
            let asks = case.route.pinned().is_some_and(|pinned| pinned.runbook.mode == Mode::Approve);
            let verdict = if asks { Verdict::Approve } else { Verdict::Execute };
            Ruling { verdict, reason: Reason::Matched, message, gates }
        }
    }
}

#[cfg(test)]
mod tests;
