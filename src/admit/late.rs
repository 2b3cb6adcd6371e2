//! The gates that others must be asked for: as an execution's first stage, so that no sender waits for them.
//!
//! What is asked is fixed when the execution leaves the queue, and what the answers mean is judged here. Unknown
//! denies: no answer, no data, old data and an error are no yes. Pure. Must never: ask anybody by itself.

use super::{Answer, Case};
use crate::journal::{Created, TriggerKind};
use crate::model::{Decision, Expect, GateReport, GateVerdict, Labels, Reason, Verdict};
use crate::runbook::{Context, Precheck, Runbook, Unhealthy};

/// The names of these gates, in order.
pub const LATE: [Reason; 5] =
    [Reason::Unconfirmed, Reason::NotFiring, Reason::Silenced, Reason::Systemic, Reason::PrecheckFailed];

/// What is to be asked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Questions {
    /// Alertmanager: whether this alert fires.
    pub confirm: Option<Labels>,
    /// Prometheus: how many are unhealthy, and of how many.
    pub unhealthy: Option<Share>,
    /// Prometheus: whether this holds.
    pub precheck: Option<(String, Expect)>,
    /// What could not even be asked, and why.
    pub broken: Vec<(Reason, String)>,
}

/// How much may be unhealthy.
#[derive(Debug, Clone, PartialEq)]
pub struct Share {
    /// Counts what is unhealthy.
    pub query: String,
    /// Counts all.
    pub of: Option<String>,
    /// How much may be.
    pub limit: Unhealthy,
}

/// What was answered; an error is a sentence.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answers {
    /// Of Alertmanager.
    pub confirm: Option<Result<Confirmation, String>>,
    /// How many are unhealthy.
    pub unhealthy: Option<Result<f64, String>>,
    /// Of how many.
    pub of: Option<Result<f64, String>>,
    /// Whether the precheck holds, and what was seen.
    pub precheck: Option<(bool, String)>,
}

/// What the Alertmanagers know of one alert, united.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Confirmation {
    /// Whether any of them knows it.
    pub known: bool,
    /// The silences that mute it.
    pub silenced_by: Vec<String>,
    /// The alerts that inhibit it, by fingerprint.
    pub inhibited_by: Vec<String>,
    /// Who is told of it.
    pub receivers: Vec<String>,
    /// How many of them did not answer.
    pub unanswered: usize,
    /// Other alerts that have all these labels and more, a few.
    pub containing: Vec<Labels>,
    /// How many more of those there are.
    pub more: usize,
}

impl Questions {
    /// What `runbook` wants asked about `created`, an automatic execution; `None` where that is nothing. `confirm` is
    /// what is configured for it, `has_alertmanager` whether one is configured.
    pub fn of(
        runbook: &Runbook,
        created: &Created,
        context: &Context,
        confirm: Option<bool>,
        has_alertmanager: bool,
    ) -> Option<Self> {
        if !created.is_automatic() {
            return None;
        }
        let by_alert = created.trigger.kind == TriggerKind::Alert;
        let mut questions = Self::default();
        // What no alert asked for has none that could be known.
        if by_alert && confirms(runbook, confirm, has_alertmanager) {
            questions.confirm = Some(created.trigger.labels.clone());
        }
        if let Some(max) = &runbook.guard.max_unhealthy {
            let of = max.of.as_ref().map(|of| of.render(context)).transpose();
            match (max.query.render(context), of) {
                (Ok(query), Ok(of)) => questions.unhealthy = Some(Share { query, of, limit: max.limit }),
                (Err(error), _) | (_, Err(error)) => {
                    questions
                        .broken
                        .push((Reason::Systemic, format!("the query cannot be rendered: {error}")));
                }
            }
        }
        if let Some(Precheck { query, expect }) = &runbook.guard.precheck {
            match query.render(context) {
                Ok(query) => questions.precheck = Some((query, *expect)),
                Err(error) => {
                    let why = format!("the query cannot be rendered: {error}");
                    questions.broken.push((Reason::PrecheckFailed, why));
                }
            }
        }
        (questions != Self::default()).then_some(questions)
    }

    /// What `answers` mean, gate by gate.
    pub fn judge(&self, answers: &Answers) -> Vec<GateReport> {
        LATE.iter()
            .map(|gate| {
                let broken = self.broken.iter().find(|(reason, _)| reason == gate);
                let answer = match (broken, gate) {
                    (Some((_, why)), _) => Answer::deny(why.as_str()),
                    (None, Reason::Systemic) => self.systemic(answers),
                    (None, Reason::PrecheckFailed) => self.precheck(answers),
                    (None, gate) => self.confirmed(*gate, answers),
                };
                report(*gate, answer)
            })
            .collect()
    }

    fn confirmed(&self, gate: Reason, answers: &Answers) -> Answer {
        if self.confirm.is_none() {
            return Answer::off("Alertmanager is not asked");
        }
        let standing = match &answers.confirm {
            Some(Ok(standing)) => standing,
            _ if gate != Reason::Unconfirmed => return Answer::off("not known, see unconfirmed"),
            Some(Err(why)) => return Answer::deny(format!("Alertmanager cannot be asked: {why}")),
            None => return Answer::deny("Alertmanager was not asked"),
        };
        let muted = [("silenced_by", &standing.silenced_by), ("inhibited_by", &standing.inhibited_by)];
        let answer = match gate {
            Reason::Unconfirmed => Answer::pass("Alertmanager has answered"),
            Reason::NotFiring if standing.known => Answer::pass("Alertmanager knows the alert"),
            Reason::NotFiring => {
                Answer::deny("Alertmanager does not know this alert: it has ended, or never was")
            }
            _ if !standing.known => Answer::off("the alert is not known, see not_firing"),
            _ => match muted.iter().find(|(_, by)| !by.is_empty()) {
                Some((name, by)) => {
                    Answer::deny(format!("the alert is {} {}", name.replace('_', " "), by.join(", ")))
                        .with(name, by.as_slice())
                }
                None => Answer::pass("the alert is neither silenced nor inhibited"),
            },
        };
        match standing.unanswered {
            0 => answer,
            count => answer.with("unanswered", count),
        }
    }

    fn systemic(&self, answers: &Answers) -> Answer {
        let Some(share) = &self.unhealthy else { return Answer::off("the runbook sets no max_unhealthy") };
        let number = |answer: &Option<Result<f64, String>>, what: &str| match answer {
            Some(Ok(number)) if number.is_finite() => Ok(*number),
            Some(Ok(number)) => Err(Answer::deny(format!("{what} is not known: {number}"))),
            Some(Err(why)) => Err(Answer::deny(format!("{what} is not known: {why}"))),
            None => Err(Answer::deny(format!("{what} was not asked for"))),
        };
        let unhealthy = match number(&answers.unhealthy, "how many are unhealthy") {
            Ok(unhealthy) => unhealthy,
            Err(answer) => return answer,
        };
        let (allowed, words) = match share.limit {
            Unhealthy::Count(limit) => (limit, format!("{limit}")),
            Unhealthy::Percent(percent) => match number(&answers.of, "how many there are") {
                Ok(all) => (part_of(all, percent), format!("{percent}% of {all}")),
                Err(answer) => return answer,
            },
        };
        // Written so that what is no number denies.
        let answer = if unhealthy <= allowed {
            Answer::pass(format!("{unhealthy} are unhealthy, {words} may be"))
        } else {
            Answer::deny(format!(
                "{unhealthy} are unhealthy and only {words} may be: one runbook is not the answer"
            ))
        };
        answer.with("unhealthy", unhealthy).with("allowed", allowed)
    }

    fn precheck(&self, answers: &Answers) -> Answer {
        if self.precheck.is_none() {
            return Answer::off("the runbook sets no precheck");
        }
        match &answers.precheck {
            Some((true, seen)) => Answer::pass(seen.as_str()),
            Some((false, seen)) => Answer::deny(seen.as_str()),
            None => Answer::deny("it was not asked"),
        }
    }
}

/// How many `percent` of `all` are, rounded down: a part of one is none.
fn part_of(all: f64, percent: f64) -> f64 {
    // 9.2 has no exact form, so 9.2% of 750 comes out a hair below the 69 that it is. The hair is far smaller than what
    // lies between a share of a fleet and the next whole number.
    (all * percent / 100.0 * (1.0 + 4.0 * f64::EPSILON)).floor()
}

/// Puts what was answered, if anything was, in the place of the gates that `decision` shows as asked later; the first
/// denial decides anew.
pub fn settle(decision: &mut Decision, answered: Option<Vec<GateReport>>) {
    let answered = answered.unwrap_or_default();
    for gate in decision.gates.iter_mut().filter(|gate| gate.verdict == GateVerdict::Later) {
        *gate = match answered.iter().find(|answer| answer.gate == gate.gate) {
            Some(answer) => answer.clone(),
            None => report(gate.gate, Answer::off("nothing would begin that could be asked about")),
        };
    }
    let denied = decision.gates.iter().find(|gate| gate.verdict == GateVerdict::Deny);
    if let (true, Some(denial)) = (decision.verdict != Verdict::Skip, denied) {
        decision.message.clone_from(&denial.message);
        (decision.verdict, decision.reason) = (Verdict::Skip, denial.gate);
    }
}

/// Which of these gates `runbook` has asked before an alert's execution begins; `confirm` and `has_alertmanager` as in
/// [`Questions::of`].
pub fn asked(runbook: &Runbook, confirm: Option<bool>, has_alertmanager: bool) -> Vec<Reason> {
    let asks = |gate: &Reason| match gate {
        Reason::Systemic => runbook.guard.max_unhealthy.is_some(),
        Reason::PrecheckFailed => runbook.guard.precheck.is_some(),
        _ => confirms(runbook, confirm, has_alertmanager),
    };
    LATE.into_iter().filter(asks).collect()
}

fn report(gate: Reason, answer: Answer) -> GateReport {
    let Answer { verdict, message, detail } = answer;
    let reason = (verdict == GateVerdict::Deny).then_some(gate);
    GateReport { gate, verdict, reason, message, detail }
}

/// A record of one gate that denied, when it was not asked with the others.
pub fn denied(gate: Reason, why: &str) -> GateReport {
    report(gate, Answer::deny(why))
}

fn confirms(runbook: &Runbook, confirm: Option<bool>, has_alertmanager: bool) -> bool {
    // Where nobody said: what can do harm is asked for, wherever somebody is there to ask.
    confirm.unwrap_or(has_alertmanager && runbook.is_changing())
}

/// What these gates say while the alert is decided: that they are asked later, or not at all.
pub(super) fn announced(case: &Case<'_>) -> Vec<GateReport> {
    let wants = |gate: Reason| {
        let pinned = case.route.pinned()?;
        let confirm = case.guards.settings.confirm.filter(|_| case.occasion.is_none());
        let has_alertmanager = case.has_alertmanager && case.occasion.is_none();
        Some(asked(&pinned.runbook, confirm, has_alertmanager).contains(&gate))
    };
    let answer = |gate: Reason| match wants(gate) {
        Some(true) => Answer { verdict: GateVerdict::Later, ..Answer::pass("asked before the first step") },
        Some(false) => Answer::off("the runbook does not ask this"),
        None => Answer::off("no runbook is selected"),
    };
    LATE.iter().map(|gate| report(*gate, answer(*gate))).collect()
}

#[cfg(test)]
mod tests;
