//! The first stage of an execution: what must be asked of others before it may leave the queue.
//!
//! May import: `admit` (what is asked, and what the answers mean). Must never: take no answer for yes.

use super::Drive;
use crate::admit::late::{Answers, Questions};
use crate::engine::Shared;
use crate::engine::registry::Input;
use crate::engine::view;
use crate::journal::State;
use crate::model::{Expect, GateReport, GateVerdict, Timestamp, between};
use crate::runbook::Kind;
use crate::step::{QueryAnswer, judge};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// How long the answers count.
const FRESH: Duration = Duration::from_secs(60);

impl Drive {
    /// What is to be asked before it leaves the queue, where nobody has answered yet.
    pub(super) fn unasked(&self, state: &State) -> Option<Questions> {
        if self.first_answers.is_some() { None } else { self.first_questions(state) }
    }

    /// What is to be asked once more before the step at `index` is the first to change something: what was asked is
    /// old by then where people took their time to consent, the daemon was restarted, or steps that only look took long.
    pub(super) fn outdated(&self, state: &State, index: usize, now: Timestamp) -> Option<Questions> {
        let acts = |index: usize| {
            let is_word = matches!(self.runbook.steps[index].kind, Kind::Notify(_));
            state.effect(index).is_changing() && !is_word
        };
        let has_acted =
            (0..state.steps.len()).any(|index| acts(index) && !state.steps[index].begun.is_empty());
        let is_fresh = self.first_answers.as_ref().is_some_and(|(at, _)| between(*at, now) < FRESH);
        if has_acted || is_fresh || !acts(index) || self.runbook.steps[index].is_finally {
            return None;
        }
        self.first_questions(state)
    }

    /// The first of the gates that were asked to say no.
    pub(super) fn first_denial(&self) -> Option<&GateReport> {
        let (_, reports) = self.first_answers.as_ref()?;
        reports.iter().find(|report| report.verdict == GateVerdict::Deny)
    }

    fn first_questions(&self, state: &State) -> Option<Questions> {
        let limits = self.shared.limits.lock().unwrap_or_else(PoisonError::into_inner);
        let confirm = self.runbook.guard.settings.over(&limits.guard).confirm;
        drop(limits);
        let context = view::context_of(&self.runbook, state);
        Questions::of(&self.runbook, &state.created, &context, confirm, self.shared.world.has_alertmanager())
    }

    /// Asks, unless that is under way.
    pub(super) fn ask_first(&mut self, questions: Questions) {
        if std::mem::replace(&mut self.asks_first, true) {
            return;
        }
        let (shared, id) = (Arc::clone(&self.shared), self.id.clone());
        self.tasks.spawn(async move {
            let answers = answer(&shared, &questions).await;
            shared.send(&id, Input::Answered(questions.judge(&answers)));
        });
    }
}

/// What is answered to `questions`; each answer is waited for as long as the world does.
pub(in crate::engine) async fn answer(shared: &Shared, questions: &Questions) -> Answers {
    let world = &shared.world;
    let confirm = async {
        let labels = questions.confirm.clone()?;
        Some(world.confirm(labels).await)
    };
    let unhealthy = async {
        let share = questions.unhealthy.as_ref()?;
        Some(count(shared, &share.query).await)
    };
    let of = async {
        let of = questions.unhealthy.as_ref()?.of.as_ref()?;
        Some(count(shared, of).await)
    };
    let precheck = async {
        let (query, expect) = questions.precheck.as_ref()?;
        Some(holds(shared, query, *expect).await)
    };
    let (confirm, unhealthy, of, precheck) = tokio::join!(confirm, unhealthy, of, precheck);
    Answers { confirm, unhealthy, of, precheck }
}

async fn holds(shared: &Shared, query: &str, expect: Expect) -> (bool, String) {
    crate::engine::observe::ask(shared, query, expect).await
}

async fn count(shared: &Shared, query: &str) -> Result<f64, String> {
    let answer = shared.world.query(query.to_owned()).await?;
    number(&answer, shared.clock.now())
}

/// The one number that `answer` is.
fn number(answer: &QueryAnswer, now: Timestamp) -> Result<f64, String> {
    let [sample] = &answer.samples[..] else {
        return Err(match answer.samples.len() {
            0 => "no data; sum(… == bool 0) is 0 where all are well, and no data only where nothing is known"
                .to_owned(),
            many => format!("{many} series where one number is wanted"),
        });
    };
    let any = Expect::parse(">= 0").map_err(|error| error.to_string())?;
    let seen = judge(any, &answer.samples, now);
    if seen.holds { Ok(sample.value) } else { Err(format!("{}: {}", seen.reason, seen.value)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::Sample;

    #[test]
    fn only_one_fresh_number_is_a_count() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let sample =
            |age: f64, value: f64| Sample { labels: Default::default(), at: 1_800_000_000.0 - age, value };
        let check = |samples: Vec<Sample>| number(&QueryAnswer { samples, warnings: Vec::new() }, now);
        assert_eq!(check(vec![sample(10.0, 3.0)]), Ok(3.0));
        for samples in [
            vec![],
            vec![sample(1.0, 3.0), sample(1.0, 3.0)],
            vec![sample(600.0, 3.0)],
            vec![sample(1.0, f64::NAN)],
            vec![sample(1.0, -1.0)],
        ] {
            assert!(check(samples.clone()).is_err(), "{samples:?}");
        }
    }
}
