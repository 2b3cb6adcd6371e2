//! Plays one case: the real engine over a store in memory, in a time that jumps from timer to timer.

use super::people;
use super::script::{Case, Suite};
use super::world::{Done, Faked};
use super::{Book, Library};
use crate::admit::{self, Denial, Request};
use crate::engine::{Engine, Limits, Parts, Runbooks};
use crate::guard::{Profiles, Settings};
use crate::journal::{Created, Entry, Event, State, Trigger, TriggerKind};
use crate::model::{Clock, ExecutionId, ExecutionStatus, Reason, RunbookId, Timestamp};
use crate::runbook::{Mode, Pinned};
use crate::store::records::{QueueCount, Records, Signal, create, key, to_bytes, transact};
use crate::store::{Ids, MemoryStore};
use crate::telemetry::{Build, Metrics};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Where every rehearsal begins, in milliseconds since 1970: the first moment of 2026.
const BEGIN: i64 = 1_767_225_600_000;
/// How often the stage looks whether somebody has to speak, or all is over.
const LOOK: Duration = Duration::from_secs(5);
/// What has not ended then never does.
const PATIENCE: Duration = Duration::from_secs(31 * 24 * 60 * 60);
/// How long an execution may be held with nobody left who would speak.
const HELD: Duration = Duration::from_secs(60);

/// What came of a case.
pub(super) enum Played {
    /// There was no execution.
    Refused(Reason, String),
    /// There was one.
    Ran(Box<Ran>),
}

/// An execution, as far as it came.
pub(super) struct Ran {
    pub(super) created: Created,
    pub(super) journal: Vec<Entry>,
    pub(super) state: State,
    pub(super) done: Vec<Done>,
    /// What went wrong with the case itself.
    pub(super) trouble: Vec<String>,
}

/// The paused time of the runtime, as a clock.
struct StageClock(Instant);

impl Clock for StageClock {
    fn now(&self) -> Timestamp {
        let passed = i64::try_from(self.0.elapsed().as_millis()).unwrap_or(i64::MAX);
        Timestamp::from_millisecond(BEGIN.saturating_add(passed)).unwrap_or(Timestamp::MAX)
    }
}

/// The runbooks of the suite, for steps that start one.
struct Shelf(Arc<Library>);

impl Runbooks for Shelf {
    fn current(&self, id: &RunbookId) -> Option<Arc<Pinned>> {
        self.0.get(id).map(|book| Arc::clone(&book.pinned))
    }
}

/// Plays `case`.
///
/// # Errors
/// A sentence: what of the stage failed.
pub(super) fn play(suite: &Suite, case: &Case) -> Result<Played, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(perform(suite, case))
}

/// Where `id` stands.
///
/// # Errors
/// What the store says.
pub(super) async fn replay(records: &Records, id: &ExecutionId) -> Result<State, String> {
    let entries = records.journal(id, 0, usize::MAX).await.map_err(|error| error.to_string())?;
    State::replay(entries).map_err(|error| error.to_string())
}

async fn perform(suite: &Suite, case: &Case) -> Result<Played, String> {
    let clock: Arc<dyn Clock> = Arc::new(StageClock(Instant::now()));
    let mut drawn: u128 = 0;
    let ids = Arc::new(Ids::drawn(None, move || {
        drawn += 1;
        drawn
    }));
    let pinned = &suite.library[&suite.id].pinned;
    let created = match created(pinned, case, &ids, clock.now()) {
        Ok(created) => created,
        Err((reason, why)) => return Ok(Played::Refused(reason, why)),
    };
    let records = Records::new(Arc::new(MemoryStore::new()));
    for (id, Book { pinned, text }) in suite.library.iter() {
        let stored = records.version_of(id, &pinned.hash, &pinned.file_name, text, clock.now()).await;
        stored.map_err(|error| error.to_string())?;
    }
    let world = Faked::new(
        Arc::clone(&case.answers),
        Arc::clone(&suite.library),
        records.clone(),
        Arc::clone(&clock),
    );
    let (queue, wake) = (Arc::new(QueueCount::default()), Arc::new(Notify::new()));
    let (first, now) = (created.clone(), clock.now());
    queue.try_add(1, 1).ok();
    let accepted = transact(&**records.store(), move |txn| create(txn, first.clone(), now)).await;
    accepted.map_err(|error| error.to_string())?;
    let engine = Engine::new(Parts {
        records: records.clone(),
        world: Arc::new(world.clone()),
        clock: Arc::clone(&clock),
        metrics: metrics(),
        wake: Arc::clone(&wake),
        queue,
        max_running: usize::from(u16::MAX),
        runbooks: Arc::new(Shelf(Arc::clone(&suite.library))),
        ids,
        limits: Limits {
            queue_deadline: Duration::from_secs(600),
            queue_limit: usize::from(u16::MAX),
            breakers: Profiles::default(),
            guard: Settings::off(),
            freezes: Vec::new(),
            storm: None,
        },
    });
    tokio::spawn(engine.clone().schedule(None));
    if let Some(after) = case.cue.resolved_after {
        tokio::spawn(resolve(records.clone(), created.id.clone(), wake, after));
    }
    let stage = people::Stage { suite, case, engine: &engine, records: &records, clock: &*clock };
    let mut trouble = watch(&stage, &created.id).await?;
    let journal = records.journal(&created.id, 0, usize::MAX).await.map_err(|error| error.to_string())?;
    let state = replay(&records, &created.id).await?;
    if !state.status.is_final() && state.status != ExecutionStatus::Paused {
        trouble.push(format!("it does not end: it is {} for a month", state.status));
    }
    Ok(Played::Ran(Box::new(Ran { created, journal, state, done: world.done(), trouble })))
}

/// Lets everybody speak in time, until the execution is over or held for good. What could not be said is given back.
async fn watch(stage: &people::Stage<'_>, id: &ExecutionId) -> Result<Vec<String>, String> {
    let (began, mut news) = (Instant::now(), stage.engine.news());
    let mut cast = people::Cast::default();
    let mut held_since: Option<Instant> = None;
    while began.elapsed() < PATIENCE {
        cast.speak(stage, id, began.elapsed()).await?;
        let header = stage.records.header(id.ulid()).await.map_err(|error| error.to_string())?;
        let status = header.map(|header| header.status);
        if status.is_some_and(ExecutionStatus::is_final) {
            break;
        }
        if status == Some(ExecutionStatus::Paused) && cast.has_spoken(stage.case) {
            let since = *held_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= HELD {
                break;
            }
        } else {
            held_since = None;
        }
        tokio::select! {
            // Lagging or not, the store is looked at again.
            _ = news.recv() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
    Ok(cast.trouble)
}

async fn resolve(records: Records, id: ExecutionId, wake: Arc<Notify>, after: Duration) {
    tokio::time::sleep(after).await;
    let told = transact(&**records.store(), move |txn| {
        txn.put(key::resolved(id.ulid()), to_bytes(&Signal::Resolved)?);
        Ok(())
    });
    // A store in memory takes it; if not, the case ends otherwise than wanted, and says so.
    let _told = told.await;
    wake.notify_one();
}

/// The execution the case begins with, or which gate says no.
fn created(pinned: &Pinned, case: &Case, ids: &Ids, now: Timestamp) -> Result<Created, (Reason, String)> {
    let cue = &case.cue;
    let alertname = cue.labels.get("alertname").filter(|_| cue.kind == TriggerKind::Alert).cloned();
    let by = match (&alertname, cue.kind) {
        (Some(name), _) => format!("alert:{name}"),
        (None, TriggerKind::Schedule) => "schedule:rehearsal".to_owned(),
        _ => "rehearsal".to_owned(),
    };
    let trigger = Trigger {
        kind: cue.kind,
        alertname,
        fingerprint: None,
        starts_at: (cue.kind == TriggerKind::Alert).then_some(now),
        generator_url: String::new(),
        external_url: String::new(),
        labels: cue.labels.clone(),
        annotations: cue.annotations.clone(),
        by,
        reason: None,
        of: None,
    };
    let request = Request {
        pinned,
        trigger,
        given: cue.inputs.clone(),
        env: cue.env.clone(),
        range: None,
        id: ExecutionId::of(&pinned.runbook.id, ids.next(now)),
        queue_deadline: Duration::from_secs(600),
        seed: 0,
        instance: "rehearsal",
        now,
    };
    let planned = admit::plan(request);
    match pinned.runbook.mode {
        Mode::Disabled => return Err((Reason::Disabled, Reason::Disabled.sentence().to_owned())),
        Mode::Shadow if planned.as_ref().is_ok_and(Created::is_automatic) => {
            return Err((Reason::Shadow, Reason::Shadow.sentence().to_owned()));
        }
        Mode::Shadow | Mode::Approve | Mode::Auto => {}
    }
    planned.map_err(|denial| match denial {
        Denial::Input(_) => (Reason::InvalidInput, denial.to_string()),
        Denial::Target(_) => (Reason::InvalidTarget, denial.to_string()),
    })
}

/// Numbers nobody looks at; one for all cases, because making them takes longer than a case.
fn metrics() -> Metrics {
    static METRICS: OnceLock<Metrics> = OnceLock::new();
    let build = Build { version: "0", revision: "0" };
    METRICS.get_or_init(|| Metrics::new(&build, Timestamp::UNIX_EPOCH)).clone()
}

impl Ran {
    /// The steps for which `picked` holds of an event, in the order in which it first did.
    pub(super) fn in_order<'r>(
        &'r self,
        picked: impl Fn(&'r Event) -> Option<&'r crate::model::StepId>,
    ) -> Vec<&'r crate::model::StepId> {
        let mut found = Vec::new();
        for step in self.journal.iter().filter_map(|entry| picked(&entry.event)) {
            if !found.contains(&step) {
                found.push(step);
            }
        }
        found
    }

    /// The last thing the world was asked to do for each step, in the role.
    pub(super) fn last_calls(&self, role: crate::model::Role) -> BTreeMap<&crate::model::StepId, &Done> {
        let own =
            self.done.iter().filter(|done| done.runbook == self.created.runbook && done.part.role == role);
        own.map(|done| (&done.step, done)).collect()
    }
}
