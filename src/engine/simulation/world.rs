//! The world: attempts that take simulated time and end as the seed wants, and the ledger of all of them.
//!
//! The ledger is what really happened, whatever the daemon believes; it outlives the daemon.
//! May import: `model`, `step`, `engine::World`. Must never: ask the engine.

use super::facts::{Act, act_of};
use super::random::Random;
use super::time::{Moment, WorldClock};
use crate::engine::World;
use crate::model::{AttemptOutcome, Clock as _, ExecutionId};
use crate::step::{AttemptContext, Call, Finished, KillSignal, QueryAnswer, Sample};
use crate::store::MemoryStore;
use crate::store::records::Records;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// One effect, from its start to its end.
#[derive(Debug, Clone)]
pub(super) struct Run {
    /// Of which execution.
    pub(super) execution: ExecutionId,
    /// Which attempt.
    pub(super) act: Act,
    /// The key it was given.
    pub(super) key: String,
    /// In which life of the daemon, from 0.
    pub(super) life: usize,
    /// When it began.
    pub(super) began: Moment,
    /// The number of the last event of its execution that was durable then.
    pub(super) durable: u64,
    /// When and how it ended; `None` as the how when the daemon went away under it.
    pub(super) ended: Option<(Moment, Option<AttemptOutcome>)>,
}

/// Everything that ever began, in that order.
pub(super) type Ledger = Arc<Mutex<Vec<Run>>>;

/// The world in one life of the daemon.
#[derive(Clone)]
pub(super) struct Scene {
    /// The seed of everything.
    pub(super) seed: u64,
    /// Which life.
    pub(super) life: usize,
    /// The ledger.
    pub(super) ledger: Ledger,
    /// The time.
    pub(super) clock: Arc<WorldClock>,
    /// What is durable.
    pub(super) platter: Arc<MemoryStore>,
    /// Whether the daemon is dead: a dead one begins nothing.
    pub(super) dead: Arc<AtomicBool>,
    /// Every attempt happens twice. No world may do this; the checks must see it.
    pub(super) stutters: bool,
}

/// Closes its line of the ledger, also when the attempt is cut off.
struct Line {
    scene: Scene,
    index: usize,
}

impl Line {
    fn open(scene: &Scene, context: &AttemptContext) -> Self {
        let records = Records::new(Arc::clone(&scene.platter) as _);
        let header = records.header(context.execution.ulid()).now_or_never().unwrap().unwrap();
        let mut ledger = scene.ledger.lock().unwrap();
        ledger.push(Run {
            execution: context.execution.clone(),
            act: act_of(context),
            key: context.idempotency_key.clone(),
            life: scene.life,
            began: scene.clock.moment(),
            durable: header.map_or(0, |header| header.seq),
            ended: None,
        });
        Self { scene: scene.clone(), index: ledger.len() - 1 }
    }

    fn close(&self, how: Option<AttemptOutcome>) {
        let mut ledger = self.scene.ledger.lock().unwrap();
        ledger[self.index].ended.get_or_insert((self.scene.clock.moment(), how));
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.close(None);
    }
}

/// What is going to become of an attempt if nobody ends it.
struct Fate {
    /// After how long, in milliseconds; `None`: never.
    lasts: Option<u64>,
    outcome: AttemptOutcome,
    /// The task fails instead of telling how it ended.
    panics: bool,
    exit_code: i32,
    random: Random,
}

impl Fate {
    fn of(scene: &Scene, context: &AttemptContext, before: usize) -> Self {
        let name = format!("{} {} {before}", context.execution, context.idempotency_key);
        let mut random = Random::of(scene.seed, &name);
        let lasts = match random.below(100) {
            0..10 => Some(0),
            10..70 => Some(random.between(1, 2000)),
            70..92 => Some(random.between(2000, 25_000)),
            _ => None,
        };
        let outcome = if random.percent(22) { AttemptOutcome::Failed } else { AttemptOutcome::Succeeded };
        let panics = random.below(200) == 0;
        let exit_code = if outcome == AttemptOutcome::Failed { random.pick(&[1, 75]) } else { 0 };
        Self { lasts, outcome, panics, exit_code, random }
    }

    /// Waits for the end, or for a kill and what it leaves of the grace.
    async fn come_about(&mut self, timeout: Duration, kill: &mut KillSignal) -> AttemptOutcome {
        let lasts = self.lasts.map(Duration::from_millis).filter(|lasts| *lasts <= timeout);
        let (end, outcome) = match lasts {
            Some(lasts) => (lasts, self.outcome),
            // The end of time, and some of the five seconds until it is really dead.
            None => (timeout + Duration::from_millis(self.random.below(5000)), AttemptOutcome::TimedOut),
        };
        let grace = tokio::select! {
            biased;
            grace = kill.asked() => grace,
            () = tokio::time::sleep(end) => return outcome,
        };
        let dies_after = |random: &mut Random, grace: Duration| {
            Duration::from_millis(random.below(u64::try_from(grace.as_millis()).unwrap() + 1))
        };
        let mut left = dies_after(&mut self.random, grace);
        loop {
            tokio::select! {
                biased;
                shorter = kill.asked() => left = dies_after(&mut self.random, shorter),
                () = tokio::time::sleep(left) => break,
            }
        }
        // It may have been done at this very moment.
        if self.random.percent(8) { self.outcome } else { AttemptOutcome::Stopped }
    }
}

impl Scene {
    /// How often this very attempt has begun already.
    fn runs_of(&self, context: &AttemptContext) -> usize {
        let ledger = self.ledger.lock().unwrap();
        let same = |run: &&Run| run.execution == context.execution && run.key == context.idempotency_key;
        ledger.iter().filter(same).count()
    }
}

impl World for Scene {
    fn attempt(
        &self,
        context: AttemptContext,
        call: Call,
        mut kill: KillSignal,
    ) -> BoxFuture<'static, Finished> {
        let scene = self.clone();
        async move {
            if scene.dead.load(Ordering::SeqCst) {
                return std::future::pending().await;
            }
            if scene.stutters {
                drop(Line::open(&scene, &context));
            }
            let before = scene.runs_of(&context);
            let line = Line::open(&scene, &context);
            let mut fate = Fate::of(&scene, &context, before);
            let outcome = fate.come_about(context.timeout, &mut kill).await;
            if fate.panics && outcome == fate.outcome {
                line.close(None);
                // Without the hook's message: this one is meant.
                std::panic::resume_unwind(Box::new("pretended"));
            }
            line.close(Some(outcome));
            told(&call, outcome, fate.exit_code)
        }
        .boxed()
    }

    fn query(&self, promql: String) -> BoxFuture<'static, Result<QueryAnswer, String>> {
        let scene = self.clone();
        async move {
            // The answer changes now and then, and is sometimes late or none.
            let now = scene.clock.moment();
            let mut random = Random::of(scene.seed, &format!("{promql} {}", now / 4000));
            tokio::time::sleep(Duration::from_millis(random.pick(&[0, 0, 3, 40, 3000]))).await;
            if random.percent(15) {
                return Err("nobody answered".to_owned());
            }
            let value = random.pick(&[0.0, 1.0, 1.0, 1.0, f64::NAN]);
            #[expect(clippy::cast_precision_loss, reason = "milliseconds of this century fit")]
            let at = scene.clock.now().as_millisecond() as f64 / 1000.0;
            let samples = match random.percent(10) {
                true => Vec::new(),
                false => vec![Sample { labels: BTreeMap::new(), at, value }],
            };
            Ok(QueryAnswer { samples, warnings: Vec::new() })
        }
        .boxed()
    }
}

/// The end as the step's kind tells it.
fn told(call: &Call, outcome: AttemptOutcome, exit_code: i32) -> Finished {
    let ended = matches!(outcome, AttemptOutcome::Succeeded | AttemptOutcome::Failed);
    let is_http = matches!(call, Call::Http(_));
    let status = if exit_code == 0 { 200 } else { 503 };
    Finished {
        exit_code: (ended && !is_http).then_some(exit_code),
        signal: (!ended && !is_http).then_some(15),
        http_status: (ended && is_http).then_some(status),
        ..Finished::bare(outcome, None)
    }
}
