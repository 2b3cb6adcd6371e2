//! The first stage of an execution: what must be asked of others before it may leave the queue.
//!
//! May import: `admit` (what is asked, and what the answers mean). Must never: take no answer for yes.

use super::Drive;
use crate::admit::late::{Answers, Questions};
use crate::engine::Shared;
use crate::engine::registry::Input;
use crate::engine::view;
use crate::journal::State;
use crate::model::{Expect, Timestamp};
use crate::step::{QueryAnswer, judge};
use std::sync::{Arc, PoisonError};

impl Drive {
    /// What is to be asked before it leaves the queue, where nobody has answered yet.
    pub(super) fn unasked(&self, state: &State) -> Option<Questions> {
        if self.first_answers.is_some() {
            return None;
        }
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
            0 => "no data; count(…) of nothing is no data too, so write count(…) or vector(0)".to_owned(),
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
