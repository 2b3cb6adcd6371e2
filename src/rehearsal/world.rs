//! A world that answers from the test file, and remembers what it was asked to do.
//!
//! An exit code, a status and a sample are judged as the real ones are: by the step's own expectations.

use super::script::{Answers, Reply, Word};
use super::stage::replay;
use super::{Library, book_of};
use crate::engine::World;
use crate::model::{
    AttemptOutcome, Clock, ExecutionStatus, Expect, Part, Role, RunbookId, StepId, StepStatus,
};
use crate::plan::view;
use crate::runbook::{Condition, Context, Kind, Runbook, Template, UntilCondition};
use crate::step::{
    AttemptContext, Call, Captured, Finished, HttpCall, KillSignal, QueryAnswer, Sample, judge, judge_answer,
};
use crate::store::records::Records;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// One thing the world was asked to do.
#[derive(Debug, Clone)]
pub(super) struct Done {
    pub(super) runbook: RunbookId,
    pub(super) step: StepId,
    pub(super) part: Part,
    pub(super) call: Call,
}

/// The world of one case.
#[derive(Clone)]
pub(super) struct Faked(Arc<Inner>);

struct Inner {
    answers: Arc<Answers>,
    library: Arc<Library>,
    records: Records,
    clock: Arc<dyn Clock>,
    done: Mutex<Vec<Done>>,
    /// How often each question was asked.
    asked: Mutex<HashMap<String, usize>>,
}

/// What Prometheus is asked, and what it answers.
struct Question<'q> {
    name: String,
    query: &'q Template,
    expect: Option<Expect>,
    replies: &'q [Reply],
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Both are whole after any panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Faked {
    pub(super) fn new(
        answers: Arc<Answers>,
        library: Arc<Library>,
        records: Records,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (done, asked) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { answers, library, records, clock, done, asked }))
    }

    /// All it was asked to do, in that order.
    pub(super) fn done(&self) -> Vec<Done> {
        lock(&self.0.done).clone()
    }

    /// The next of `replies` to what is called `name`; the last one stands for all that follow.
    fn next(&self, name: String, replies: &[Reply]) -> Reply {
        let mut asked = lock(&self.0.asked);
        let count = asked.entry(name).or_default();
        let reply = replies.get(*count).or(replies.last()).cloned().unwrap_or_default();
        *count += 1;
        reply
    }

    fn reply(&self, context: &AttemptContext) -> Reply {
        let step = context.step.clone();
        let key = RunbookId::new(context.execution.runbook()).map(|runbook| (runbook, step));
        let Some(answers) = key.ok().and_then(|key| self.0.answers.steps.get(&key)) else {
            return Reply::default();
        };
        let waits = self.kind(context).is_some_and(|kind| matches!(kind, Kind::Until(_)));
        let replies = match (context.part.role, context.part.item) {
            (Role::Probe, _) if !waits => &answers.probe,
            (Role::Undo, _) => &answers.undo,
            (_, Some(item)) if !answers.items.is_empty() => {
                let item = usize::try_from(item).unwrap_or(usize::MAX);
                answers.items.get(item).unwrap_or(&answers.main)
            }
            _ => &answers.main,
        };
        self.next(format!("{} {} {}", context.execution, context.step, context.part), replies)
    }

    fn kind(&self, context: &AttemptContext) -> Option<&Kind> {
        let book = book_of(&self.0.library, &context.execution)?;
        let runbook = &book.pinned.runbook;
        Some(&runbook.steps[runbook.step_index(&context.step)?].kind)
    }

    fn remember(&self, context: &AttemptContext, call: &Call) {
        if let Ok(runbook) = RunbookId::new(context.execution.runbook()) {
            let (step, part, call) = (context.step.clone(), context.part, call.clone());
            lock(&self.0.done).push(Done { runbook, step, part, call });
        }
    }

    /// What Prometheus answers to `promql`: whoever waits for just that question says.
    async fn answer(&self, promql: &str) -> Result<QueryAnswer, String> {
        let live = self.0.records.live(None, usize::MAX).await.map_err(|error| error.to_string())?;
        for header in live {
            let Some(book) = book_of(&self.0.library, &header.id) else { continue };
            let runbook = &book.pinned.runbook;
            let state = replay(&self.0.records, &header.id).await?;
            let context = view::context_of(runbook, &state);
            let mut questions = Vec::new();
            match state.status {
                ExecutionStatus::Queued => self.first(runbook, &mut questions),
                ExecutionStatus::Verifying => self.proof(runbook, &mut questions),
                _ => {}
            }
            for (step, seen) in runbook.steps.iter().zip(&state.steps) {
                let Kind::Until(until) = &step.kind else { continue };
                if let UntilCondition::Promql { query, expect } = &until.condition
                    && seen.status == StepStatus::Waiting
                {
                    let key = (runbook.id.clone(), step.id.clone());
                    let replies = self.0.answers.steps.get(&key).map_or(&[][..], |answers| &answers.main);
                    let name = format!("{} {}", header.id, step.id);
                    questions.push(Question { name, query, expect: Some(*expect), replies });
                }
            }
            // Once more, where much time went by before anything was changed.
            if state.status == ExecutionStatus::Running {
                self.first(runbook, &mut questions);
            }
            let is_asked =
                |question: &&Question<'_>| rendered(question.query, &context) == Some(promql.to_owned());
            if let Some(question) = questions.iter().find(is_asked) {
                let reply = self.next(question.name.clone(), question.replies);
                return self.samples(&reply, question.expect);
            }
        }
        Err("no step of the runbook asks this".to_owned())
    }

    fn first<'q>(&'q self, runbook: &'q Runbook, questions: &mut Vec<Question<'q>>) {
        let (guard, answers) = (&runbook.guard, &self.0.answers);
        if let Some(precheck) = &guard.precheck {
            let (query, expect) = (&precheck.query, Some(precheck.expect));
            questions.push(Question {
                name: "precheck".to_owned(),
                query,
                expect,
                replies: &answers.precheck,
            });
        }
        if let Some(max) = &guard.max_unhealthy {
            let name = "unhealthy".to_owned();
            questions.push(Question { name, query: &max.query, expect: None, replies: &answers.unhealthy });
            if let Some(query) = &max.of {
                questions.push(Question { name: "of".to_owned(), query, expect: None, replies: &answers.of });
            }
        }
    }

    fn proof<'q>(&'q self, runbook: &'q Runbook, questions: &mut Vec<Question<'q>>) {
        if let Some(verify) = &runbook.verify
            && let Condition::Promql { query, expect } = &verify.condition
        {
            let (name, replies) = ("verify".to_owned(), &self.0.answers.verify[..]);
            questions.push(Question { name, query, expect: Some(*expect), replies });
        }
    }

    /// What a reply is in samples: values that satisfy `expect`, or do not. Without an expectation a count is asked
    /// for; where nobody says otherwise, nothing is unhealthy, of one.
    fn samples(&self, reply: &Reply, expect: Option<Expect>) -> Result<QueryAnswer, String> {
        let value = match (reply.word, reply.value) {
            (Some(Word::NoAnswer), _) => return Err("nobody answered".to_owned()),
            (Some(Word::NoData), _) => None,
            (_, Some(value)) => Some(value),
            (Some(Word::Failed), _) => expect.map_or(Some(1.0), |expect| example(expect, false)),
            _ => expect.map_or(Some(0.0), |expect| example(expect, true)),
        };
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of this century fit")]
        let at = self.0.clock.now().as_millisecond() as f64 / 1000.0;
        let samples = value.into_iter().map(|value| Sample { labels: BTreeMap::new(), at, value }).collect();
        Ok(QueryAnswer { samples, warnings: Vec::new() })
    }

    /// How `call` ends by what `reply` says.
    fn finish(&self, call: &Call, reply: &Reply) -> Finished {
        match reply.word {
            Some(Word::NoAnswer) => {
                return Finished::bare(AttemptOutcome::Failed, Some("nobody answered".to_owned()));
            }
            Some(Word::Unknown) => {
                return Finished::bare(
                    AttemptOutcome::Unknown,
                    Some("nobody knows whether it happened".to_owned()),
                );
            }
            _ => {}
        }
        let fails = reply.word == Some(Word::Failed);
        let mut finished = match call {
            Call::Command(call) => exited(reply, &call.ok_exit),
            Call::Script(call) => exited(reply, &call.ok_exit),
            Call::Ssh(call) => exited(reply, &call.ok_exit),
            Call::Http(call) => answered(call, reply),
            Call::Promql(call) => match self.samples(reply, Some(call.expect)) {
                Ok(answer) => {
                    let seen = judge(call.expect, &answer.samples, self.0.clock.now());
                    let why = format!("{}: {} (wanted {})", seen.reason, seen.value, call.expect);
                    if seen.holds { well() } else { Finished::bare(AttemptOutcome::Failed, Some(why)) }
                }
                Err(why) => Finished::bare(AttemptOutcome::Failed, Some(why)),
            },
            Call::Silence(_) | Call::ExpireSilence(_) | Call::Notify(_) if fails => {
                Finished::bare(AttemptOutcome::Failed, Some("it was refused".to_owned()))
            }
            Call::Silence(_) | Call::ExpireSilence(_) | Call::Notify(_) => well(),
        };
        if finished.stdout.total == 0 {
            finished.stdout = captured(&reply.stdout);
        }
        finished.stderr = captured(&reply.stderr);
        finished
    }
}

fn rendered(template: &Template, context: &Context) -> Option<String> {
    template.render(context).ok()
}

fn captured(text: &str) -> Captured {
    let head = text.as_bytes()[..text.floor_char_boundary(crate::step::INLINE)].to_vec();
    Captured { total: text.len() as u64, truncated: (text.len() - head.len()) as u64, head, file: None }
}

fn well() -> Finished {
    Finished::bare(AttemptOutcome::Succeeded, None)
}

fn exited(reply: &Reply, ok_exit: &[i32]) -> Finished {
    let bad = || (1..=255).find(|code| !ok_exit.contains(code)).unwrap_or(1);
    let code = reply.exit.unwrap_or_else(|| if reply.word == Some(Word::Failed) { bad() } else { 0 });
    let well = ok_exit.contains(&code);
    let outcome = if well { AttemptOutcome::Succeeded } else { AttemptOutcome::Failed };
    let error = (!well).then(|| format!("exit code {code}"));
    Finished { exit_code: Some(code), ..Finished::bare(outcome, error) }
}

fn answered(call: &HttpCall, reply: &Reply) -> Finished {
    let is_fine = |status: &u16| judge_answer(call, *status, reply.stdout.as_bytes()).is_ok();
    let mut body = reply.stdout.clone();
    let status = reply.status.unwrap_or_else(|| {
        if reply.word == Some(Word::Failed) {
            return [500, 404, 302, 200].into_iter().find(|status| !is_fine(status)).unwrap_or(500);
        }
        if let Some(json) = call.expect_json.as_ref().filter(|_| body.is_empty()) {
            body = json.to_string();
        }
        let fits = |status: &u16| judge_answer(call, *status, body.as_bytes()).is_ok();
        (200..600).find(fits).unwrap_or(200)
    });
    let judged = judge_answer(call, status, body.as_bytes());
    let outcome = if judged.is_ok() { AttemptOutcome::Succeeded } else { AttemptOutcome::Failed };
    Finished { http_status: Some(status), stdout: captured(&body), ..Finished::bare(outcome, judged.err()) }
}

/// A value that satisfies `expect`, or one that does not; nothing where having no sample is the answer.
fn example(expect: Expect, satisfies: bool) -> Option<f64> {
    if expect.is_absent() {
        return (!satisfies).then_some(1.0);
    }
    let text = expect.to_string();
    let number: f64 = text.trim_start_matches(['=', '!', '<', '>', ' ']).parse().unwrap_or_default();
    let near = [number, number + 1.0, number - 1.0];
    near.into_iter().find(|value| expect.satisfied_by(*value) == satisfies)
}

impl World for Faked {
    fn attempt(
        &self,
        context: AttemptContext,
        call: Call,
        mut kill: KillSignal,
    ) -> BoxFuture<'static, Finished> {
        let world = self.clone();
        async move {
            world.remember(&context, &call);
            let reply = world.reply(&context);
            let times_out = reply.word == Some(Word::Timeout) || reply.takes > context.timeout;
            let lasts = if times_out { context.timeout } else { reply.takes };
            tokio::select! {
                biased;
                _ = kill.asked() => Finished::bare(AttemptOutcome::Stopped, None),
                () = tokio::time::sleep(lasts) => match times_out {
                    true => Finished::bare(AttemptOutcome::TimedOut, Some("its time ran out".to_owned())),
                    false => world.finish(&call, &reply),
                },
            }
        }
        .boxed()
    }

    fn exists(&self, context: AttemptContext, _path: PathBuf) -> BoxFuture<'static, bool> {
        let reply = self.reply(&context);
        async move { reply.word != Some(Word::Failed) }.boxed()
    }

    fn query(&self, promql: String) -> BoxFuture<'static, Result<QueryAnswer, String>> {
        let world = self.clone();
        async move {
            // Not at once: whoever asks has only just become durable.
            tokio::time::sleep(Duration::from_millis(1)).await;
            world.answer(&promql).await
        }
        .boxed()
    }
}
