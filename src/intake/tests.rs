//! Schedules and mappings over a store in memory, by a clock that stands still.

use super::*;
use crate::guard::{Board, Order, Profiles, Scope, SwitchState};
use crate::model::{
    Alert, AlertStatus, Clock as _, Decision, Fingerprint, Labels, ManualClock, Matcher, Reason, RunbookId,
    Timestamp,
};
use crate::routing::{self, Library, Listed, Mapping, Route, Rules, Source};
use crate::runbook::{self, Pinned};
use crate::schedule::{Cron, Schedule, Zone};
use crate::store::records::{DecisionFilter, ExecutionFilter, Header, QueueCount, Records};
use crate::store::{Fault, Ids, MemoryStore, Store};
use crate::telemetry::{Build, Metrics};
use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

/// An intake by itself; it can be taken down and put up again over the same store.
struct Bench {
    store: Arc<MemoryStore>,
    clock: Arc<ManualClock>,
    board: Arc<Board>,
    queue: Arc<QueueCount>,
    records: Records,
    intake: Intake,
}

fn options(config: &[(&str, &str, &str)]) -> Options {
    let mapping = |(name, matcher, runbook): &(&str, &str, &str)| Mapping {
        name: (*name).to_owned(),
        matchers: vec![Matcher::parse(matcher).unwrap()],
        runbook: RunbookId::new(runbook).unwrap(),
    };
    Options {
        rules: Rules { mappings: config.iter().map(mapping).collect(), order: vec![Source::Config] },
        episode_ttl: Duration::from_secs(3600),
        queue_deadline: Duration::from_secs(600),
        queue_limit: 1,
        breakers: Profiles::default(),
        guard: crate::guard::Settings::off(),
        storm: None,
        freezes: Vec::new(),
        has_alertmanager: false,
        instance: "test".to_owned(),
    }
}

fn library() -> Library {
    let one = |id: &str, mode: &str| {
        let text = format!(
            "title = \"T\"\nmode = \"{mode}\"\ntarget = \"{{{{ inputs.host }}}}\"\n\
             [inputs.host]\ndefault = \"{{}}\"\n[[steps]]\nid = \"a\"\ncommand = {{ program = \"true\" }}\n"
        )
        .replace("{}", "db");
        let id = RunbookId::new(id).unwrap();
        let parsed = runbook::parse(&id, "act.toml", &text);
        let runbook = parsed.runbook.unwrap_or_else(|| panic!("{:?}", parsed.problems));
        let pinned = Pinned { runbook, version: 1, hash: parsed.hash, file_name: "act.toml".to_owned() };
        (id, Listed::Good(Arc::new(pinned)))
    };
    Library::new([one("act", "auto"), one("look", "shadow"), one("other", "auto")].into())
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn schedule(name: &str, cron: &str, runbook: &str) -> Schedule {
    Schedule {
        name: name.to_owned(),
        cron: Cron::parse(cron).unwrap(),
        zone: Zone::named("Europe/Berlin").unwrap(),
        runbook: RunbookId::new(runbook).unwrap(),
        inputs: BTreeMap::new(),
        catch_up: None,
    }
}

impl Bench {
    fn new(now: &str) -> Self {
        Self::over(Arc::default(), Arc::new(ManualClock::new(at(now))))
    }

    fn over(store: Arc<MemoryStore>, clock: Arc<ManualClock>) -> Self {
        let (board, queue) = (Arc::<Board>::default(), Arc::<QueueCount>::default());
        let metrics = Metrics::new(&Build { version: "0", revision: "test" }, clock.now());
        let records = Records::new(Arc::clone(&store) as Arc<dyn Store>);
        let intake = Intake::new(
            Arc::clone(&store) as Arc<dyn Store>,
            Arc::clone(&clock) as _,
            Arc::new(Ids::after(None)),
            Arc::new(RwLock::new(Arc::new(library()))),
            options(&[("m", "a=\"1\"", "act")]),
            Arc::clone(&queue),
            Arc::default(),
            metrics,
            Arc::clone(&board),
        );
        Self { store, clock, board, queue, records, intake }
    }

    /// As after a restart: nothing is left but the store.
    fn again(self) -> Self {
        Self::over(self.store, self.clock)
    }

    fn set(&self, now: &str) {
        self.clock.advance(at(now).as_millisecond() - self.clock.now().as_millisecond());
    }

    /// Sets the clock, sees to what is due, and gives when to come again.
    async fn tick(&self, now: &str) -> Option<String> {
        self.set(now);
        self.intake.keep_schedules().await.map(|at| at.to_string())
    }

    async fn executions(&self) -> Vec<Header> {
        self.records.executions(&ExecutionFilter::default(), None, 500).await.unwrap().items
    }

    /// The decisions, the oldest first.
    async fn decisions(&self) -> Vec<Decision> {
        let mut items = self.records.decisions(&DecisionFilter::default(), None, 500).await.unwrap().items;
        items.reverse();
        items
    }

    async fn reasons(&self) -> Vec<Reason> {
        self.decisions().await.into_iter().map(|decision| decision.reason).collect()
    }

    /// Ends every execution, as the engine would.
    async fn end_all(&self) {
        use crate::journal::{Entry, Event};
        use crate::model::ExecutionStatus;
        use crate::store::records::{append, transact};
        for header in self.executions().await.into_iter().filter(|header| !header.status.is_final()) {
            let (at, status) = (self.clock.now(), ExecutionStatus::Succeeded);
            let event = Event::Finished { status, reason: None, message: None };
            let entry = Entry { seq: header.seq + 1, at, event };
            let after = Header { status, seq: header.seq + 1, ..header };
            let work = move |txn: &mut dyn crate::store::Txn| {
                append(txn, &after.id, std::slice::from_ref(&entry), &after)
            };
            transact(&*self.store, work).await.unwrap();
            self.queue.remove(1);
        }
    }
}

#[tokio::test]
async fn each_due_time_becomes_one_execution_also_across_restarts() {
    let bench = Bench::new("2026-06-01T00:00:10Z");
    bench.intake.reschedule([schedule("s", "* * * * *", "act")]);
    // What was due before it came into force is not missed.
    assert_eq!(bench.tick("2026-06-01T00:00:10Z").await.unwrap(), "2026-06-01T00:01:00Z");
    assert!(bench.executions().await.is_empty());
    assert_eq!(bench.tick("2026-06-01T00:01:00Z").await.unwrap(), "2026-06-01T00:02:00Z");
    assert_eq!(bench.tick("2026-06-01T00:01:00Z").await.unwrap(), "2026-06-01T00:02:00Z");
    let made = bench.executions().await;
    assert_eq!(made.len(), 1);
    let journal = bench.records.journal(&made[0].id, 0, 1).await.unwrap();
    let crate::journal::Event::Created(created) = &journal[0].event else { panic!("{journal:?}") };
    let trigger = &created.trigger;
    assert_eq!((trigger.by.as_str(), trigger.kind), ("schedule:s", crate::journal::TriggerKind::Schedule));
    assert_eq!((trigger.starts_at, &trigger.alertname), (Some(at("2026-06-01T00:01:00Z")), &None));
    bench.end_all().await;

    let bench = bench.again();
    bench.intake.reschedule([schedule("s", "* * * * *", "act")]);
    assert_eq!(bench.tick("2026-06-01T00:01:59.999Z").await.unwrap(), "2026-06-01T00:02:00Z");
    assert_eq!(bench.executions().await.len(), 1, "what was seen to before the restart is not due again");
    // The clock goes back: nothing is due twice.
    assert_eq!(bench.tick("2026-06-01T00:00:30Z").await.unwrap(), "2026-06-01T00:02:00Z");
    assert_eq!(bench.executions().await.len(), 1);

    let bench = bench.again();
    bench.intake.reschedule([schedule("s", "* * * * *", "act")]);
    // Five were missed; the last of them is made up for, once.
    assert_eq!(bench.tick("2026-06-01T00:06:20Z").await.unwrap(), "2026-06-01T00:07:00Z");
    assert_eq!(bench.executions().await.len(), 2);
    assert_eq!(bench.reasons().await, [Reason::Matched, Reason::Matched]);
    let shown = bench.intake.schedules().remove(0);
    let last = shown.record.as_ref().unwrap().last.as_ref().unwrap();
    assert_eq!((last.at, last.reason), (at("2026-06-01T00:06:00Z"), Reason::Matched));
    assert_eq!(shown.record.unwrap().execution.as_ref(), Some(&bench.executions().await[0].id));
}

#[tokio::test]
async fn what_was_missed_too_long_ago_is_noted_and_skipped() {
    let bench = Bench::new("2026-06-01T12:00:00Z");
    bench.intake.reschedule([schedule("s", "0 2 * * *", "act")]);
    assert_eq!(bench.tick("2026-06-01T12:00:00Z").await.unwrap(), "2026-06-02T00:00:00Z");
    let bench = bench.again();
    bench.intake.reschedule([schedule("s", "0 2 * * *", "act")]);
    assert_eq!(bench.tick("2026-06-02T01:00:01Z").await.unwrap(), "2026-06-03T00:00:00Z");
    assert!(bench.executions().await.is_empty());
    let decision = bench.decisions().await.remove(0);
    assert_eq!((decision.reason, decision.fingerprint), (Reason::Stale, None));
    assert_eq!(decision.labels, Labels::from([("schedule".to_owned(), "s".to_owned())]));
    assert!(decision.message.contains("may be late by 1h"), "{}", decision.message);
    assert_eq!(bench.queue.get(), 0);
    // Within its grace it is made up for.
    let bench = bench.again();
    bench.intake.reschedule([schedule("s", "0 2 * * *", "act")]);
    bench.tick("2026-06-03T00:59:59Z").await.unwrap();
    assert_eq!(bench.reasons().await, [Reason::Stale, Reason::Matched]);
}

#[tokio::test]
async fn what_a_clock_far_ahead_had_run_is_not_run_again_and_the_schedule_says_why_it_waits() {
    let bench = Bench::new("2026-06-01T00:00:30Z");
    bench.intake.reschedule([schedule("s", "0 * * * *", "act"), schedule("gone", "0 0 1 1 *", "gone")]);
    bench.tick("2026-06-01T00:00:30Z").await.unwrap();
    let problem = |bench: &Bench, at: usize| bench.intake.schedules().remove(at).problem;
    assert_eq!(problem(&bench, 0), None);
    assert_eq!(problem(&bench, 1).unwrap(), "there is no runbook gone");
    bench.tick("2026-06-05T10:00:00Z").await.unwrap();
    assert_eq!(bench.reasons().await, [Reason::Matched]);
    bench.end_all().await;
    // It is said as long as something is still to come that was seen to.
    bench.set("2026-06-05T09:59:59.500Z");
    assert!(problem(&bench, 0).is_some());
    bench.set("2026-06-05T10:00:00Z");
    assert_eq!(problem(&bench, 0), None);

    let bench = bench.again();
    bench.set("2026-06-01T01:00:00Z");
    bench.intake.reschedule([schedule("s", "0 * * * *", "act")]);
    assert_eq!(bench.tick("2026-06-01T02:00:00Z").await.unwrap(), "2026-06-05T11:00:00Z");
    assert_eq!(bench.executions().await.len(), 1, "what ran then is not run again");
    let shown = bench.intake.schedules().remove(0);
    assert_eq!(shown.next_at, Some(at("2026-06-05T11:00:00Z")));
    let why = shown.problem.unwrap();
    assert!(
        why.starts_with("the clock was ahead: what is due until 2026-06-05T10:00:00Z was seen to"),
        "{why}"
    );
    // By another name it counts from now on.
    bench.intake.reschedule([schedule("t", "0 * * * *", "act")]);
    assert_eq!(bench.tick("2026-06-01T02:00:00Z").await.unwrap(), "2026-06-01T03:00:00Z");
    assert_eq!(problem(&bench, 0), None);
}

#[tokio::test]
async fn another_expression_counts_from_now_and_what_is_removed_is_forgotten() {
    let bench = Bench::new("2026-06-01T12:00:00Z");
    bench.intake.reschedule([schedule("s", "0 2 * * *", "act")]);
    bench.tick("2026-06-01T12:00:00Z").await.unwrap();
    bench.intake.reschedule([schedule("s", "30 13 * * *", "act")]);
    assert_eq!(bench.tick("2026-06-01T12:00:01Z").await.unwrap(), "2026-06-02T11:30:00Z");
    bench.intake.reschedule([]);
    assert_eq!(bench.tick("2026-06-02T11:40:00Z").await, None);
    assert!(bench.records.schedules().await.unwrap().is_empty());
    bench.intake.reschedule([schedule("s", "30 13 * * *", "act")]);
    assert_eq!(bench.tick("2026-06-02T11:41:00Z").await.unwrap(), "2026-06-03T11:30:00Z");
    assert!(bench.decisions().await.is_empty());
}

#[tokio::test]
async fn gates_hold_a_schedule_as_they_hold_alerts_and_the_same_answer_is_counted() {
    let bench = Bench::new("2026-06-01T00:00:30Z");
    bench.intake.reschedule([schedule("s", "* * * * *", "look"), schedule("gone", "0 0 1 1 *", "gone")]);
    for minute in 0..4 {
        bench.tick(&format!("2026-06-01T00:0{minute}:30Z")).await.unwrap();
    }
    let decision = bench.decisions().await.remove(0);
    assert_eq!((decision.reason, decision.seen), (Reason::Shadow, 3));
    assert_eq!(decision.last_seen, at("2026-06-01T00:03:30Z"));
    // Its labels are what the kill switch sees of it.
    let order = |scope| Order {
        scope,
        state: SwitchState::Halted,
        by: "ada".to_owned(),
        reason: "look".to_owned(),
        at: bench.clock.now(),
        expires_at: None,
    };
    let scope = Scope::Matchers(vec![Matcher::parse("schedule=\"s\"").unwrap()]);
    bench.board.change(|switch| switch.set(order(scope.clone())));
    bench.tick("2026-06-01T00:04:30Z").await.unwrap();
    bench.board.change(|switch| drop(switch.clear(&scope)));
    bench.tick("2026-06-01T00:05:30Z").await.unwrap();
    assert_eq!(bench.reasons().await, [Reason::Shadow, Reason::Halted, Reason::Shadow]);
    bench.tick("2027-01-01T00:00:10+01:00").await.unwrap();
    let unknown = bench.decisions().await.into_iter().find(|it| it.reason == Reason::UnknownRunbook).unwrap();
    assert_eq!(unknown.runbook.unwrap().as_str(), "gone");
    assert!(bench.executions().await.is_empty());
}

#[tokio::test]
async fn people_are_told_once_of_a_schedule_that_is_denied_and_every_due_time_counts() {
    use crate::guard::{Limit, Settings};
    let bench = Bench::new("2026-06-01T00:00:30Z");
    let once = Limit { count: 1, within: Duration::from_secs(24 * 3600) };
    let guard = Settings { max_runs: vec![once], ..Settings::off() };
    bench.intake.reconfigure(Options { guard, ..options(&[]) });
    bench.intake.reschedule([schedule("s", "* * * * *", "act")]);
    bench.tick("2026-06-01T00:00:30Z").await.unwrap();
    bench.tick("2026-06-01T00:01:30Z").await.unwrap();
    bench.end_all().await;
    let told = || async { bench.records.escalations(&Default::default(), None, 10).await.unwrap().items };
    assert!(told().await.is_empty(), "it ran");
    // Seen to twice at the last of these times, it is denied there once.
    for now in
        ["2026-06-01T00:02:30Z", "2026-06-01T00:03:30Z", "2026-06-01T00:04:30Z", "2026-06-01T00:04:30Z"]
    {
        bench.tick(now).await.unwrap();
    }
    let decision = bench.decisions().await.remove(1);
    assert_eq!((decision.reason, decision.seen), (Reason::AttemptsExhausted, 3));
    let all = told().await;
    let totals = all[0].totals.clone().unwrap();
    assert_eq!((all.len(), totals.count, totals.targets), (1, 3, vec!["db".to_owned()]));
    let message = all[0].message.clone().unwrap();
    assert!(message.starts_with("the schedule \"s\": it was started on db 1 of 1 in 1day"), "{message}");
    // The same denial in another window is told again: nobody remembers the one of yesterday.
    bench.tick("2026-06-01T01:30:30Z").await.unwrap();
    assert_eq!((bench.decisions().await.len(), told().await.len()), (2, 2));
}

#[tokio::test]
async fn while_its_last_execution_lives_a_schedule_starts_no_other() {
    let bench = Bench::new("2026-06-01T00:00:30Z");
    bench.intake.reschedule([schedule("s", "* * * * *", "act")]);
    for minute in 0..3 {
        bench.tick(&format!("2026-06-01T00:0{minute}:30Z")).await.unwrap();
    }
    let decisions = bench.decisions().await;
    assert_eq!(bench.reasons().await, [Reason::Matched, Reason::Repeat]);
    assert_eq!(decisions[1].execution_id, decisions[0].execution_id);
    assert_eq!(bench.queue.get(), 1);
    bench.end_all().await;
    bench.tick("2026-06-01T00:03:30Z").await.unwrap();
    assert_eq!(bench.executions().await.len(), 2);
}

#[tokio::test]
async fn with_a_full_queue_or_a_full_disk_it_is_tried_again_until_there_is_room() {
    let bench = Bench::new("2026-06-01T00:00:30Z");
    bench.intake.reschedule([schedule("a", "* * * * *", "act"), schedule("b", "* * * * *", "other")]);
    bench.tick("2026-06-01T00:00:30Z").await.unwrap();
    assert_eq!(bench.tick("2026-06-01T00:01:00Z").await.unwrap(), "2026-06-01T00:01:01Z");
    assert_eq!((bench.executions().await.len(), bench.queue.get()), (1, 1));
    bench.end_all().await;
    bench.store.pretend(Some(Fault::Full));
    assert_eq!(bench.tick("2026-06-01T00:01:01Z").await.unwrap(), "2026-06-01T00:01:02Z");
    assert_eq!(bench.queue.get(), 0, "what could not be written keeps no room");
    bench.store.pretend(None);
    assert_eq!(bench.tick("2026-06-01T00:01:02Z").await.unwrap(), "2026-06-01T00:02:00Z");
    assert_eq!(bench.executions().await.len(), 2);
    assert_eq!(bench.reasons().await, [Reason::Matched, Reason::Matched]);
}

/// Which runbook an alert with this label would start.
fn routed(intake: &Intake, label: &str) -> Option<String> {
    let labels: Labels = [("alertname", "A"), ("a", label)].map(|(n, v)| (n.to_owned(), v.to_owned())).into();
    let alert = Alert {
        status: AlertStatus::Firing,
        fingerprint: Fingerprint::of(&labels),
        labels,
        annotations: Labels::new(),
        starts_at: Timestamp::UNIX_EPOCH,
        ends_at: None,
        generator_url: String::new(),
        external_url: String::new(),
    };
    match routing::route(&alert, &intake.options().rules, &library()) {
        Route::Selected { pinned, .. } => Some(pinned.runbook.id.to_string()),
        _ => None,
    }
}

fn wanted(name: &str, matcher: &str, runbook: &str) -> NewMapping {
    NewMapping {
        name: name.to_owned(),
        matchers: vec![Matcher::parse(matcher).unwrap()],
        runbook: RunbookId::new(runbook).unwrap(),
        by: "ada".to_owned(),
        reason: "why".to_owned(),
    }
}

#[tokio::test]
async fn a_mapping_that_a_person_sets_comes_before_the_config_and_survives_restart_and_reload() {
    let bench = Bench::new("2026-06-01T00:00:00Z");
    let names = |intake: &Intake| -> Vec<String> {
        intake.options().rules.mappings.iter().map(|mapping| mapping.name.clone()).collect()
    };
    assert_eq!(routed(&bench.intake, "1").as_deref(), Some("act"));
    bench.intake.set_mapping(wanted("one", "a=\"1\"", "other")).await.unwrap();
    bench.intake.set_mapping(wanted("two", "a=~\".+\"", "act")).await.unwrap();
    assert_eq!(names(&bench.intake), ["one", "two", "m"]);
    assert_eq!(routed(&bench.intake, "1").as_deref(), Some("other"));
    assert_eq!(routed(&bench.intake, "2").as_deref(), Some("act"));
    // Replaced, it keeps its place.
    bench.intake.set_mapping(wanted("one", "a=\"3\"", "other")).await.unwrap();
    assert_eq!(names(&bench.intake), ["one", "two", "m"]);
    assert_eq!(routed(&bench.intake, "1").as_deref(), Some("act"));

    let bench = bench.again();
    assert_eq!(names(&bench.intake), ["m"]);
    assert_eq!(bench.intake.load_mappings().await.unwrap(), 2);
    assert_eq!(routed(&bench.intake, "3").as_deref(), Some("other"));
    bench.intake.reconfigure(options(&[("n", "a=\"1\"", "look"), ("o", "a=\"1\"", "act")]));
    assert_eq!(names(&bench.intake), ["one", "two", "n", "o"]);
    bench.intake.delete_mapping("two", "ada", "enough").await.unwrap();
    assert_eq!(names(&bench.intake), ["one", "n", "o"]);
    assert_eq!(routed(&bench.intake, "1").as_deref(), Some("look"));
    bench.intake.set_mapping(wanted("two", "a=\"1\"", "act")).await.unwrap();
    assert_eq!(names(&bench.intake), ["one", "two", "n", "o"]);

    let audit = bench.records.audit(&Default::default(), None, 10).await.unwrap().items;
    let actions: Vec<(&str, &str)> =
        audit.iter().rev().map(|record| (record.action.as_ref(), record.target.as_str())).collect();
    let set = |name| ("mapping.set", name);
    assert_eq!(actions, [set("one"), set("two"), set("one"), ("mapping.delete", "two"), set("two")]);
}

#[tokio::test]
async fn a_mapping_that_cannot_be_is_refused_and_changes_nothing() {
    let bench = Bench::new("2026-06-01T00:00:00Z");
    let refused = bench.intake.set_mapping(wanted("one", "a=\"1\"", "gone")).await.unwrap_err();
    assert!(matches!(refused, MappingError::UnknownRunbook(_)));
    let large = NewMapping {
        matchers: vec![Matcher::parse("a=\"1\"").unwrap(); 500],
        ..wanted("one", "a=\"1\"", "act")
    };
    assert!(matches!(bench.intake.set_mapping(large).await.unwrap_err(), MappingError::TooLarge(_)));
    for (name, expected) in [("one", false), ("m", true)] {
        match bench.intake.delete_mapping(name, "ada", "why").await.unwrap_err() {
            MappingError::Unknown { in_config, .. } => assert_eq!(in_config, expected),
            other => panic!("{other}"),
        }
    }
    bench.store.pretend(Some(Fault::Full));
    let refused = bench.intake.set_mapping(wanted("one", "a=\"1\"", "other")).await.unwrap_err();
    assert!(matches!(refused, MappingError::Store(_)));
    bench.store.pretend(None);
    assert_eq!(routed(&bench.intake, "1").as_deref(), Some("act"));
    assert!(bench.records.mappings().await.unwrap().is_empty());
    assert_eq!(bench.records.audit(&Default::default(), None, 10).await.unwrap().items.len(), 0);
}
