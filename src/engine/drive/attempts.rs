//! The doing: one task for each attempt in progress, and what its end means for its kind.

use super::{Drive, Running, think};
use crate::engine::call::Work;
use crate::engine::registry::Input;
use crate::engine::{Shared, amx, call};
use crate::journal::{AttemptResult, Event, Output, State};
use crate::model::{AttemptOutcome, Part, Role};
use crate::runbook::{Kind, Question};
use crate::step::{AttemptContext, Captured, Finished, KillSignal, kill_pair};
use futures_util::FutureExt as _;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

/// An attempt to start once its intent is durable.
pub(super) struct Start {
    pub(super) index: usize,
    pub(super) part: Part,
    pub(super) attempt: u32,
    pub(super) work: Work,
}

impl Drive {
    pub(super) fn start(&mut self, start: Start) {
        let Start { index, part, attempt, work } = start;
        let (killer, signal) = kill_pair();
        self.attempts.insert((index, part), Running { killer, timed_out: false });
        let created = &self.state.created;
        let step = &self.runbook.steps[index];
        let deadline = self.state.steps[index].open_of(part).map(|open| open.deadline);
        let timeout =
            deadline.map_or(step.timeout, |deadline| think::time_left(deadline, self.shared.clock.now()));
        let context = AttemptContext {
            execution: self.id.clone(),
            step: step.id.clone(),
            part,
            attempt,
            idempotency_key: call::idempotency_key(&self.state, index, part),
            timeout,
            amx: amx::variables(&created.trigger),
        };
        let (shared, id, kind) = (Arc::clone(&self.shared), self.id.clone(), step.kind.clone());
        let kind = if part.role == Role::Main { Some(kind) } else { None };
        // Those that have ended are let go of.
        while self.tasks.try_join_next().is_some() {}
        self.tasks.spawn(async move {
            let doing =
                AssertUnwindSafe(perform(&shared, kind.as_ref(), context, work, signal)).catch_unwind();
            let result = doing.await.unwrap_or_else(|_| {
                let why = "runbookd failed while this ran; it may or may not have happened".to_owned();
                AttemptResult::plain(AttemptOutcome::Unknown, String::new(), Some(why))
            });
            shared.send(&id, Input::Ended { index, part, attempt, result: Box::new(result) });
        });
    }
}

/// Does the work of one attempt; `kind` is the step's where the attempt is the step itself.
async fn perform(
    shared: &Shared,
    kind: Option<&Kind>,
    context: AttemptContext,
    work: Work,
    signal: KillSignal,
) -> AttemptResult {
    match work {
        // Its end was decided while its beginning was being made durable.
        _ if signal.is_asked() => {
            let why = "it was to end before it began, and did not begin".to_owned();
            AttemptResult::plain(AttemptOutcome::Stopped, String::new(), Some(why))
        }
        Work::Call(call) => settle(kind, shared.world.attempt(context, call, signal).await),
        Work::FileExists(path) => judge_check(kind, shared.world.exists(context, path).await),
        work => kind.map_or_else(
            || AttemptResult::plain(AttemptOutcome::Unknown, String::new(), None),
            |kind| instant(kind, work),
        ),
    }
}

/// The outcome of work that takes no time.
pub(super) fn instant(kind: &Kind, work: Work) -> AttemptResult {
    match work {
        Work::Answer(answer) => judge_check(Some(kind), answer),
        Work::Text(text) => {
            let shown = text[..text.floor_char_boundary(crate::step::INLINE)].to_owned();
            AttemptResult::plain(AttemptOutcome::Succeeded, shown, None)
        }
        Work::Call(_) | Work::FileExists(_) => {
            AttemptResult::plain(AttemptOutcome::Unknown, String::new(), None)
        }
    }
}

pub(super) fn finished(
    state: &State,
    index: usize,
    part: Part,
    attempt: u32,
    result: AttemptResult,
) -> Event {
    let step = state.created.steps[index].id.clone();
    Event::AttemptFinished { step, part, attempt, result: Box::new(result) }
}

/// What a finished attempt means for its kind: a check's command answers with its exit code.
fn settle(kind: Option<&Kind>, finished: Finished) -> AttemptResult {
    let Finished { mut outcome, exit_code, signal, http_status, stdout, stderr, mut error, retry_after } =
        finished;
    let mut answer = None;
    if let Some(Kind::Check { question: Question::Command(_), must }) = kind {
        let said_no = outcome == AttemptOutcome::Failed && exit_code.is_some();
        if outcome == AttemptOutcome::Succeeded || said_no {
            answer = Some(outcome == AttemptOutcome::Succeeded);
        }
        if said_no && !must {
            (outcome, error) = (AttemptOutcome::Succeeded, None);
        }
    }
    let (stdout, stderr) = (output(stdout), output(stderr));
    let retry_after_ms = retry_after.map(|pause| u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
    let child = None;
    AttemptResult {
        outcome,
        exit_code,
        signal,
        http_status,
        stdout,
        stderr,
        error,
        answer,
        child,
        retry_after_ms,
    }
}

fn judge_check(kind: Option<&Kind>, answer: bool) -> AttemptResult {
    let fails = !answer && matches!(kind, None | Some(Kind::Check { must: true, .. }));
    let outcome = if fails { AttemptOutcome::Failed } else { AttemptOutcome::Succeeded };
    let error = fails.then(|| "the check's answer is no, and it must be yes".to_owned());
    AttemptResult { answer: Some(answer), ..AttemptResult::plain(outcome, String::new(), error) }
}

fn output(captured: Captured) -> Output {
    Output {
        bytes: captured.total,
        cut: captured.truncated,
        head: String::from_utf8_lossy(&captured.head).into_owned(),
        file: captured.file,
    }
}
