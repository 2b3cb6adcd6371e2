//! The families themselves: names, help texts, labels and buckets, in the order they are exposed.
//!
//! May import: `model`. Must never: be seen outside `metrics`.

use super::labels::{AuthFailure, Code, StepKind};
use super::process::ProcessFacts;
use super::{Build, Gauges};
use crate::model::{AlertStatus, ExecutionStatus, Reason, RunbookId, StepStatus, Verdict};
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Metric, Registry};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// The status of an element that is no alert.
pub(super) const INVALID: &str = "invalid";

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;
type Seconds = Gauge<f64, AtomicU64>;

macro_rules! label_sets {
    ($($name:ident { $($label:ident: $kind:ty),+ })+) => {$(
        #[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub(super) struct $name { $(pub(super) $label: $kind),+ }
    )+};
}
label_sets! {
    CodeLabels { code: Code }
    StatusLabels { status: &'static str }
    DecisionLabels { verdict: &'static str, reason: &'static str }
    ExecutionLabels { runbook: Arc<str>, outcome: &'static str }
    RunbookLabels { runbook: Arc<str> }
    StepLabels { runbook: Arc<str>, kind: &'static str, outcome: &'static str }
    KindLabels { kind: &'static str }
    HttpLabels { route: Arc<str>, method: &'static str, code: Code }
    RouteLabels { route: Arc<str> }
    EscalationLabels { notifier: Arc<str>, outcome: &'static str }
    AuthLabels { reason: &'static str }
    BreakerLabels { breaker: String }
    BreakersLabels { runbook: Arc<str>, state: &'static str }
    ScopeLabels { scope: &'static str }
    FreezeLabels { freeze: String }
    BuildLabels { version: &'static str, revision: &'static str }
}

/// What a step can end in.
pub(super) const STEP_OUTCOMES: [StepStatus; 6] = [
    StepStatus::Skipped,
    StepStatus::Succeeded,
    StepStatus::Failed,
    StepStatus::TimedOut,
    StepStatus::Stopped,
    StepStatus::Unknown,
];
/// How an execution can end that undid what it had done.
pub(super) const ROLLBACK_OUTCOMES: [ExecutionStatus; 2] =
    [ExecutionStatus::RolledBack, ExecutionStatus::RollbackFailed];
/// The answers of the webhook that an operator writes alerts on.
const WEBHOOK_CODES: [u16; 8] = [200, 400, 401, 405, 413, 415, 500, 503];

/// An answer within one process and one sync of a disk.
const REQUEST: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// One sync of a disk: from an NVMe cache to a stalled network volume.
const COMMIT: [f64; 13] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];
/// From an idle daemon's few milliseconds to a queue's deadline of ten minutes.
const REACTION: [f64; 14] =
    [0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 600.0];
/// A program or a request up to an hour's wait.
const WORK: [f64; 14] = [0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 15.0, 30.0, 60.0, 300.0, 900.0, 1800.0, 3600.0];
/// What people promise about incidents: half a minute to a day.
const REMEDIATION: [f64; 12] =
    [5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 14400.0, 86400.0];
const BATCH: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// Everything that is written where it happens.
#[derive(Debug)]
pub(super) struct Families {
    pub(super) webhook_requests: Family<CodeLabels, Counter>,
    pub(super) webhook_duration: Histogram,
    pub(super) last_webhook: Seconds,
    pub(super) alerts_received: Family<StatusLabels, Counter>,
    pub(super) decisions: Family<DecisionLabels, Counter>,
    pub(super) executions: Family<ExecutionLabels, Counter>,
    pub(super) execution_duration: Histograms<RunbookLabels>,
    pub(super) time_to_remediation: Histograms<RunbookLabels>,
    pub(super) reaction: Histogram,
    pub(super) steps: Family<StepLabels, Counter>,
    pub(super) step_duration: Histograms<KindLabels>,
    pub(super) step_retries: Family<RunbookLabels, Counter>,
    pub(super) rollbacks: Family<ExecutionLabels, Counter>,
    pub(super) commit_duration: Histogram,
    pub(super) commit_batch: Histogram,
    pub(super) http_requests: Family<HttpLabels, Counter>,
    pub(super) http_duration: Histograms<RouteLabels>,
    pub(super) auth_failures: Family<AuthLabels, Counter>,
    pub(super) audit_write_failures: Counter,
    pub(super) rate_limited: Family<RouteLabels, Counter>,
    pub(super) escalations: Family<EscalationLabels, Counter>,
    pub(super) escalations_waiting: Gauge,
    pub(super) escalation_oldest_waiting: Seconds,
    pub(super) reload_successful: Gauge,
    pub(super) reload_success_time: Seconds,
    pub(super) backup_success_time: Seconds,
    pub(super) backup_failures: Counter,
    pub(super) build_info: Family<BuildLabels, Gauge>,
    pub(super) start_time: Seconds,
}

impl Families {
    pub(super) fn new() -> Self {
        Self {
            webhook_requests: Family::default(),
            webhook_duration: Histogram::new(REQUEST),
            last_webhook: Seconds::default(),
            alerts_received: Family::default(),
            decisions: Family::default(),
            executions: Family::default(),
            execution_duration: Family::new_with_constructor(|| Histogram::new(WORK)),
            time_to_remediation: Family::new_with_constructor(|| Histogram::new(REMEDIATION)),
            reaction: Histogram::new(REACTION),
            steps: Family::default(),
            step_duration: Family::new_with_constructor(|| Histogram::new(WORK)),
            step_retries: Family::default(),
            rollbacks: Family::default(),
            commit_duration: Histogram::new(COMMIT),
            commit_batch: Histogram::new(BATCH),
            http_requests: Family::default(),
            http_duration: Family::new_with_constructor(|| Histogram::new(REQUEST)),
            auth_failures: Family::default(),
            audit_write_failures: Counter::default(),
            rate_limited: Family::default(),
            escalations: Family::default(),
            escalations_waiting: Gauge::default(),
            escalation_oldest_waiting: Seconds::default(),
            reload_successful: Gauge::default(),
            reload_success_time: Seconds::default(),
            backup_success_time: Seconds::default(),
            backup_failures: Counter::default(),
            build_info: Family::default(),
            start_time: Seconds::default(),
        }
    }

    /// Creates the label sets that are known before anything happened, so that `rate()` sees the first event.
    pub(super) fn fill_known_labels(&self, build: &Build) {
        for code in WEBHOOK_CODES {
            drop(self.webhook_requests.get_or_create(&CodeLabels { code: Code::new(code) }));
        }
        for status in [AlertStatus::Firing.as_str(), AlertStatus::Resolved.as_str(), INVALID] {
            drop(self.alerts_received.get_or_create(&StatusLabels { status }));
        }
        for (verdict, reason) in decision_pairs() {
            let labels = DecisionLabels { verdict: verdict.as_str(), reason: reason.as_str() };
            drop(self.decisions.get_or_create(&labels));
        }
        for kind in StepKind::ALL {
            drop(self.step_duration.get_or_create(&KindLabels { kind: kind.as_str() }));
        }
        for reason in AuthFailure::ALL {
            drop(self.auth_failures.get_or_create(&AuthLabels { reason: reason.as_str() }));
        }
        let labels = BuildLabels { version: build.version, revision: build.revision };
        self.build_info.get_or_create(&labels).set(1);
    }

    /// The registry that encodes them. The encoder ends each help text with a full stop.
    pub(super) fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("runbookd");
        let mut add = Adder(&mut registry);
        self.add_work(&mut add);
        self.add_store(&mut add);
        self.add_edge(&mut add);
        registry
    }

    fn add_work(&self, add: &mut Adder) {
        add.one(
            "alerts_received",
            "Elements received in webhooks, by their own status, or invalid",
            &self.alerts_received,
        );
        add.one(
            "decisions",
            "Decisions made about alerts received, by verdict and reason code",
            &self.decisions,
        );
        add.one(
            "executions",
            "Executions that ended, by final status; (unloaded) is any runbook whose file is gone",
            &self.executions,
        );
        add.one(
            "execution_duration_seconds",
            "Time from an execution's creation to its final status",
            &self.execution_duration,
        );
        add.one(
            "time_to_remediation_seconds",
            "Time from an alert's startsAt to its execution's success",
            &self.time_to_remediation,
        );
        add.one(
            "reaction_seconds",
            "Time from receiving a webhook to the start of its execution's first step",
            &self.reaction,
        );
        add.one("steps", "Steps that ended, by kind and outcome", &self.steps);
        add.one(
            "step_duration_seconds",
            "Time a step took in all its attempts, steps without an attempt left out",
            &self.step_duration,
        );
        add.one(
            "step_retries",
            "Further attempts of steps and undos that were scheduled",
            &self.step_retries,
        );
        add.one("rollbacks", "Executions that ended after undoing, by how they ended", &self.rollbacks);
        add.one(
            "escalations",
            "Tries to tell people, by notifier and what became of them; (unknown) is what no notifier of the config stands for",
            &self.escalations,
        );
    }

    fn add_store(&self, add: &mut Adder) {
        add.one(
            "journal_commit_duration_seconds",
            "Time to make one batch of the store durable",
            &self.commit_duration,
        );
        add.one(
            "journal_commit_batch_size",
            "Units of work that became durable together in one batch",
            &self.commit_batch,
        );
        add.one(
            "escalations_waiting",
            "Escalations that should have been told by now and that no channel has accepted",
            &self.escalations_waiting,
        );
        add.one(
            "escalation_oldest_waiting_seconds",
            "How long the oldest of these has waited, 0 where there is none",
            &self.escalation_oldest_waiting,
        );
        add.one(
            "backup_last_success_timestamp_seconds",
            "Unix time of the newest backup that was taken by the clock, 0 where there is none",
            &self.backup_success_time,
        );
        add.one("backup_failures", "Backups by the clock that could not be written", &self.backup_failures);
    }

    fn add_edge(&self, add: &mut Adder) {
        add.one("webhook_requests", "Webhook requests answered, by status code", &self.webhook_requests);
        add.one(
            "webhook_duration_seconds",
            "Time to answer a webhook request, durable storage included",
            &self.webhook_duration,
        );
        add.one(
            "last_webhook_timestamp_seconds",
            "Unix time of the last webhook request accepted, 0 before the first",
            &self.last_webhook,
        );
        add.one(
            "http_requests",
            "Requests answered, by route template, method and status code",
            &self.http_requests,
        );
        add.one(
            "http_request_duration_seconds",
            "Time to answer a request, by route template",
            &self.http_duration,
        );
        add.one("auth_failures", "Requests refused for who sent them", &self.auth_failures);
        add.one(
            "audit_write_failures",
            "Changes whose audit record could not be written: refused, or of the kill switch and in force all the same",
            &self.audit_write_failures,
        );
        add.one(
            "http_rate_limited",
            "Requests refused because their caller asked too often, by route template",
            &self.rate_limited,
        );
        add.one(
            "config_last_reload_successful",
            "Whether the last reading of config and runbooks found no problem (1) or did (0)",
            &self.reload_successful,
        );
        add.one(
            "config_last_reload_success_timestamp_seconds",
            "Unix time of the last reading of config and runbooks without a problem",
            &self.reload_success_time,
        );
        add.one(
            "build_info",
            "Always 1, labelled with version and revision of the program",
            &self.build_info,
        );
        add.one("start_time_seconds", "Unix time at which the daemon started", &self.start_time);
    }
}

/// Every pair of verdict and reason that a decision can have.
pub(super) fn decision_pairs() -> impl Iterator<Item = (Verdict, Reason)> {
    let started = [(Verdict::Execute, Reason::Matched), (Verdict::Approve, Reason::Matched)];
    let skipped = Reason::DECISION.iter().filter(|reason| **reason != Reason::Matched);
    started.into_iter().chain(skipped.map(|reason| (Verdict::Skip, *reason)))
}

/// The registry of what is true now, made for one scrape.
pub(super) fn current(
    now: &Gauges,
    process: &ProcessFacts,
    certificate_expiry: Option<i64>,
    runbook_label: impl Fn(&RunbookId) -> Arc<str>,
) -> Registry {
    let mut registry = Registry::default();
    let own = registry.sub_registry_with_prefix("runbookd");
    let active: Family<StatusLabels, Gauge> = Family::default();
    for status in ExecutionStatus::live() {
        let of_status = now.executions_active.iter().filter(|(other, _)| *other == status);
        let count = of_status.fold(0_u64, |sum, (_, count)| sum.saturating_add(*count));
        let labels = StatusLabels { status: status.as_str() };
        active.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
    }
    own.register("executions_active", "Executions that have not ended, by status", Exposed(active));
    own.register("queue_length", "Executions in the queue", ConstGauge::new(now.queue_length));
    own.register(
        "queue_oldest_age_seconds",
        "How long the oldest execution in the queue has waited, 0 when it is empty",
        ConstGauge::new(now.queue_oldest_age.as_secs_f64()),
    );
    own.register(
        "approvals_pending",
        "Executions that wait for a person's consent",
        ConstGauge::new(now.approvals_pending),
    );
    own.register("store_size_bytes", "Bytes the store takes on disk", Maybe(now.store_size_bytes));
    own.register(
        "certificate_expiry_timestamp_seconds",
        "Unix time at which the certificate that is served ends; no sample without TLS",
        Maybe(certificate_expiry),
    );
    guard_gauges(own, now, runbook_label);
    process_gauges(registry.sub_registry_with_prefix("process"), process);
    registry
}

fn guard_gauges(registry: &mut Registry, now: &Gauges, runbook_label: impl Fn(&RunbookId) -> Arc<str>) {
    let states: Family<BreakerLabels, Gauge> = Family::default();
    for (breaker, state) in &now.breaker_states {
        let labels = BreakerLabels { breaker: breaker.clone() };
        states.get_or_create(&labels).set(i64::try_from(*state).unwrap_or(i64::MAX));
    }
    let help = "State of a breaker whose key is no template: 1 closed, 2 open, 3 half-open";
    registry.register("breaker_state", help, Exposed(states));
    let counts: Family<BreakersLabels, Gauge> = Family::default();
    for (runbook, state, count) in &now.breakers {
        let labels = BreakersLabels { runbook: runbook_label(runbook), state };
        counts.get_or_create(&labels).inc_by(i64::try_from(*count).unwrap_or(i64::MAX));
    }
    registry.register("breakers", "Breakers that are not closed, by runbook and state", Exposed(counts));
    let switch: Family<ScopeLabels, Gauge> = Family::default();
    for scope in ["global", "runbook", "matchers"] {
        let count = now.kill_switch.iter().find(|(kind, _)| *kind == scope).map_or(0, |(_, count)| *count);
        switch.get_or_create(&ScopeLabels { scope }).set(i64::try_from(count).unwrap_or(i64::MAX));
    }
    let help = "Orders of the kill switch that stand, by the sort of what they cover";
    registry.register("kill_switch_active", help, Exposed(switch));
    registry.register(
        "quarantined_targets",
        "Targets that automation leaves alone until a person clears them",
        Maybe(now.quarantined_targets),
    );
    registry.register(
        "storm_active",
        "Whether so many episodes begin that nothing is started (1) or not (0)",
        Maybe(now.storm_active.map(u64::from)),
    );
    let freezes: Family<FreezeLabels, Gauge> = Family::default();
    for (freeze, is_active) in &now.freezes {
        // Two of one name are one series: in force if either is.
        freezes.get_or_create(&FreezeLabels { freeze: freeze.clone() }).inc_by(i64::from(*is_active));
    }
    let help = "Whether a freeze of the config is in force (1 or more) or not (0)";
    registry.register("freeze_active", help, Exposed(freezes));
    registry.register(
        "flapping_alerts",
        "Alerts that are left alone because they fire and resolve again and again",
        ConstGauge::new(now.flapping_alerts),
    );
}

fn process_gauges(registry: &mut Registry, process: &ProcessFacts) {
    registry.register(
        "cpu_seconds",
        "Total user and system CPU time spent in seconds",
        MaybeTotal(process.cpu_seconds),
    );
    registry.register(
        "resident_memory_bytes",
        "Resident memory size in bytes",
        Maybe(process.resident_bytes),
    );
    registry.register("virtual_memory_bytes", "Virtual memory size in bytes", Maybe(process.virtual_bytes));
    registry.register("open_fds", "Number of open file descriptors", Maybe(process.open_fds));
    registry.register("max_fds", "Maximum number of open file descriptors", Maybe(process.max_fds));
    registry.register(
        "start_time_seconds",
        "Start time of the process since unix epoch in seconds",
        Maybe(process.start_seconds),
    );
    registry.register("threads", "Number of OS threads in the process", Maybe(process.threads));
}

struct Adder<'a>(&'a mut Registry);

impl Adder<'_> {
    fn one<M: EncodeMetric + TypedMetric + Clone + fmt::Debug + Send + Sync + 'static>(
        &mut self,
        name: &str,
        help: &str,
        metric: &M,
    ) where
        Exposed<M>: Metric,
    {
        self.0.register(name, help, Exposed(metric.clone()));
    }
}

/// Shows HELP and TYPE also while a family has no label set: the registry leaves out what says it is empty.
#[derive(Debug)]
struct Exposed<M>(M);

impl<M: EncodeMetric> EncodeMetric for Exposed<M> {
    fn encode(&self, encoder: MetricEncoder) -> fmt::Result {
        self.0.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        self.0.metric_type()
    }
}

/// A gauge that has no sample when its value cannot be read.
#[derive(Debug)]
struct Maybe<N>(Option<N>);

impl<N: prometheus_client::encoding::EncodeGaugeValue> EncodeMetric for Maybe<N> {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |value| encoder.encode_gauge(value))
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

/// As [`Maybe`], for a counter.
#[derive(Debug)]
struct MaybeTotal(Option<f64>);

impl EncodeMetric for MaybeTotal {
    fn encode(&self, encoder: MetricEncoder) -> fmt::Result {
        self.0.map_or(Ok(()), |value| ConstCounter::new(value).encode(encoder))
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}
