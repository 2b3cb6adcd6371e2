//! Which ends of which steps the cases have seen.

use super::stage::Played;
use crate::model::{Role, StepId, StepStatus};
use crate::runbook::{Kind, Question, Runbook};

/// How a step was seen to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It succeeded.
    Ok,
    /// It failed, timed out or left nobody knowing.
    Failed,
    /// It was left out.
    Skipped,
    /// It was taken back.
    Undone,
}

impl Seen {
    /// All of them, in the order in which they are told.
    pub const ALL: [Self; 4] = [Self::Ok, Self::Failed, Self::Skipped, Self::Undone];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Undone => "undone",
        }
    }
}

/// The coverage of one runbook.
#[derive(Debug)]
pub struct Coverage(Vec<Row>);

#[derive(Debug)]
struct Row {
    step: StepId,
    possible: Vec<Seen>,
    seen: Vec<Seen>,
}

impl Coverage {
    /// Nothing seen yet of `runbook`.
    pub(super) fn of(runbook: &Runbook) -> Self {
        let rows = runbook.steps.iter().map(|step| {
            let never_fails = matches!(
                step.kind,
                Kind::Wait { .. }
                    | Kind::Instruct { acknowledge: false, .. }
                    | Kind::Check { question: Question::Expr(_), must: false }
                    | Kind::Check { question: Question::FileExists(_), must: false }
            );
            let possible = Seen::ALL.into_iter().filter(|seen| match seen {
                Seen::Ok => true,
                Seen::Failed => !never_fails,
                // A resolved alert leaves out what changes something, too; that is the same for all runbooks.
                Seen::Skipped => step.when.is_some(),
                Seen::Undone => step.undo.is_some(),
            });
            Row { step: step.id.clone(), possible: possible.collect(), seen: Vec::new() }
        });
        Self(rows.collect())
    }

    /// Adds what a case has seen.
    pub(super) fn add(&mut self, played: &Played) {
        let Played::Ran(ran) = played else { return };
        for (row, state) in self.0.iter_mut().zip(&ran.state.steps) {
            let end = match state.status {
                StepStatus::Succeeded => Some(Seen::Ok),
                StepStatus::Skipped => Some(Seen::Skipped),
                _ if state.has_failed() => Some(Seen::Failed),
                _ => None,
            };
            let undone = state.attempts.iter().any(|attempt| attempt.part.role == Role::Undo);
            let all = end.into_iter().chain(undone.then_some(Seen::Undone));
            for seen in all {
                if !row.seen.contains(&seen) {
                    row.seen.push(seen);
                }
            }
        }
    }

    /// How many of the steps that could end so were seen to, and how many there are.
    pub fn count(&self, seen: Seen) -> (usize, usize) {
        let possible = self.0.iter().filter(|row| row.possible.contains(&seen));
        (possible.clone().filter(|row| row.seen.contains(&seen)).count(), possible.count())
    }

    /// The ends that no case has seen, by step.
    pub fn never(&self) -> impl Iterator<Item = (&StepId, Seen)> {
        self.0.iter().flat_map(|row| {
            let unseen = row.possible.iter().filter(|seen| !row.seen.contains(seen));
            unseen.map(|seen| (&row.step, *seen))
        })
    }

    /// The ends that were seen, by step.
    pub fn seen(&self) -> impl Iterator<Item = (&StepId, &[Seen])> {
        self.0.iter().map(|row| (&row.step, &row.seen[..]))
    }
}
