//! Every metric the daemon exposes, behind methods named after what happened.
//!
//! A clone is one pointer. Counters and histograms are written where the thing happens; what *is* (queue,
//! active executions, store size) arrives as [`Gauges`] with each scrape, so that it cannot be stale.
//! May import: `model`. Must never: accept a label value that is not an enum, a number in range or registered.

mod exposition;
mod families;
mod labels;
mod process;
#[cfg(test)]
mod tests;

pub use labels::{AuthFailure, Escalated, StepKind};

use crate::model::{AlertStatus, ExecutionStatus, Reason, RunbookId, StepStatus, Timestamp, Verdict};
use families::{
    AuthLabels, CodeLabels, DecisionLabels, EscalationLabels, ExecutionLabels, Families, HttpLabels, INVALID,
    KindLabels, RouteLabels, RunbookLabels, StatusLabels, StepLabels,
};
use labels::{Code, Known, method_word};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Which program this is, for `runbookd_build_info`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// The version of the package.
    pub version: &'static str,
    /// The commit it was built from; `unknown` when the build did not say.
    pub revision: &'static str,
}

/// What is true at the moment of the scrape; the caller reads it afresh for each one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Gauges {
    /// Live executions by status; a live status that is missing counts as 0, a final one is ignored.
    pub executions_active: Vec<(ExecutionStatus, u64)>,
    /// Executions in the queue.
    pub queue_length: u64,
    /// How long the oldest of them has waited; zero when the queue is empty.
    pub queue_oldest_age: Duration,
    /// Executions that wait for a person's consent.
    pub approvals_pending: u64,
    /// Bytes the store takes on disk; `None` when it cannot be measured, then the family has no sample.
    pub store_size_bytes: Option<u64>,
    /// Breakers whose keys people wrote, the caller bounds how many: 1 closed, 2 open, 3 half-open.
    pub breaker_states: Vec<(String, u64)>,
    /// How many breakers of a runbook are in a state; of runbooks that were never registered, counted together.
    pub breakers: Vec<(RunbookId, &'static str, u64)>,
    /// Orders of the kill switch that stand, by the sort of their scope.
    pub kill_switch: Vec<(&'static str, u64)>,
    /// Quarantined targets; `None` when they cannot be counted.
    pub quarantined_targets: Option<u64>,
    /// Whether so many episodes begin that nothing is started; `None` when that cannot be read.
    pub storm_active: Option<bool>,
    /// The freezes of the config, and whether each is in force.
    pub freezes: Vec<(String, bool)>,
    /// Alerts that are left alone because they flap.
    pub flapping_alerts: u64,
}

/// The daemon's metrics; cheap to clone, safe to write from anywhere.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    families: Families,
    registry: prometheus_client::registry::Registry,
    runbooks: Known,
    routes: Known,
    notifiers: Known,
    /// When the certificate ends that is served, in seconds since 1970; 0 without one.
    certificate_expiry: AtomicI64,
}

/// More runbooks than a directory of files holds; beyond it they share one label value.
const MAX_RUNBOOKS: usize = 10_000;
/// More routes than the route table has.
const MAX_ROUTES: usize = 500;
/// More notifiers than a config has.
const MAX_NOTIFIERS: usize = 500;

impl Metrics {
    /// All families, each exposed from now on; label sets that are known in advance start at zero.
    pub fn new(build: &Build, started: Timestamp) -> Self {
        let families = Families::new();
        families.fill_known_labels(build);
        families.start_time.set(seconds_since_epoch(started));
        let registry = families.registry();
        // A value in parentheses can be neither a runbook's id nor a route.
        let runbooks = Known::new("(unloaded)", MAX_RUNBOOKS);
        let routes = Known::new("(unmatched)", MAX_ROUTES);
        let notifiers = Known::new("(unknown)", MAX_NOTIFIERS);
        let metrics = Self(Arc::new(Inner {
            families,
            registry,
            runbooks,
            routes,
            notifiers,
            certificate_expiry: AtomicI64::new(0),
        }));
        metrics.fill_notifier("");
        metrics
    }

    /// Makes a loaded runbook's id a label value and creates its series at zero; again is harmless.
    ///
    /// Ids that were never registered are counted together as `(unloaded)`.
    pub fn register_runbook(&self, runbook: &RunbookId) {
        if !self.0.runbooks.add(runbook.as_str()) {
            return;
        }
        let label = self.runbook(runbook);
        for outcome in ExecutionStatus::ALL.iter().copied().filter(|status| status.is_final()) {
            let labels = ExecutionLabels { runbook: label.clone(), outcome: outcome.as_str() };
            drop(self.0.families.executions.get_or_create(&labels));
        }
        for outcome in families::ROLLBACK_OUTCOMES {
            let labels = ExecutionLabels { runbook: label.clone(), outcome: outcome.as_str() };
            drop(self.0.families.rollbacks.get_or_create(&labels));
        }
        let labels = RunbookLabels { runbook: label };
        drop(self.0.families.step_retries.get_or_create(&labels));
        drop(self.0.families.execution_duration.get_or_create(&labels));
        drop(self.0.families.time_to_remediation.get_or_create(&labels));
    }

    /// Creates the step series of a registered runbook at zero, for one kind of step that it has.
    pub fn register_step(&self, runbook: &RunbookId, kind: StepKind) {
        for outcome in families::STEP_OUTCOMES {
            drop(self.0.families.steps.get_or_create(&self.step_labels(runbook, kind, outcome)));
        }
    }

    /// Makes a route of the route table (its template, not a path) a label value; again is harmless.
    pub fn register_route(&self, route: &str) {
        if self.0.routes.add(route) {
            let labels = RouteLabels { route: self.0.routes.get(route) };
            drop(self.0.families.http_duration.get_or_create(&labels));
            drop(self.0.families.rate_limited.get_or_create(&labels));
        }
    }

    /// Makes the name of a notifier a label value and creates its series at zero; again is harmless.
    pub fn register_notifier(&self, notifier: &str) {
        if self.0.notifiers.add(notifier) {
            self.fill_notifier(notifier);
        }
    }

    fn fill_notifier(&self, notifier: &str) {
        for outcome in Escalated::ALL {
            drop(self.0.families.escalations.get_or_create(&self.escalation_labels(notifier, *outcome)));
        }
    }

    /// A message through `notifier` fared so; names that were never registered are counted as `(unknown)`.
    pub fn escalated(&self, notifier: &str, outcome: Escalated) {
        self.0.families.escalations.get_or_create(&self.escalation_labels(notifier, outcome)).inc();
    }

    /// A record of the audit log could not be written, and neither was what it tells of, but for the kill switch.
    pub fn audit_write_failed(&self) {
        self.0.families.audit_write_failures.inc();
    }

    /// So many escalations should have been told by now and were not, the oldest for so long.
    pub fn escalations_wait(&self, count: usize, oldest: Duration) {
        self.0.families.escalations_waiting.set(i64::try_from(count).unwrap_or(i64::MAX));
        self.0.families.escalation_oldest_waiting.set(oldest.as_secs_f64());
    }

    /// So many escalations were dropped, because too many were waiting.
    pub fn escalations_dropped(&self, count: u64) {
        let labels = self.escalation_labels("", Escalated::Dropped);
        self.0.families.escalations.get_or_create(&labels).inc_by(count);
    }

    fn escalation_labels(&self, notifier: &str, outcome: Escalated) -> EscalationLabels {
        EscalationLabels { notifier: self.0.notifiers.get(notifier), outcome: outcome.as_str() }
    }

    /// A webhook request was answered with `code`, `took` after its first byte, at `at`.
    pub fn webhook_answered(&self, code: u16, took: Duration, at: Timestamp) {
        let families = &self.0.families;
        families.webhook_requests.get_or_create(&CodeLabels { code: Code::new(code) }).inc();
        families.webhook_duration.observe(took.as_secs_f64());
        // A refused one says nothing of the path that alerts take: a stranger can send it.
        if code == 200 {
            families.last_webhook.set(seconds_since_epoch(at));
        }
    }

    /// One alert was received with this status of its own; `None` for an element that is no alert.
    pub fn alert_received(&self, status: Option<AlertStatus>) {
        let status = status.map_or(INVALID, AlertStatus::as_str);
        self.0.families.alerts_received.get_or_create(&StatusLabels { status }).inc();
    }

    /// One decision was made (repeated ones count too).
    pub fn decision_made(&self, verdict: Verdict, reason: Reason) {
        let labels = DecisionLabels { verdict: verdict.as_str(), reason: reason.as_str() };
        self.0.families.decisions.get_or_create(&labels).inc();
    }

    /// An execution reached the final status `outcome`, `took` after it was created.
    ///
    /// A status that is not final counts nothing; one that only an undo leads to counts as a rollback too.
    pub fn execution_finished(&self, runbook: &RunbookId, outcome: ExecutionStatus, took: Duration) {
        if !outcome.is_final() {
            return;
        }
        let runbook = self.runbook(runbook);
        let labels = ExecutionLabels { runbook: runbook.clone(), outcome: outcome.as_str() };
        self.0.families.executions.get_or_create(&labels).inc();
        if families::ROLLBACK_OUTCOMES.contains(&outcome) {
            self.0.families.rollbacks.get_or_create(&labels).inc();
        }
        let labels = RunbookLabels { runbook };
        self.0.families.execution_duration.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// An execution succeeded, `took` after its alert's `startsAt`.
    pub fn remediated(&self, runbook: &RunbookId, took: Duration) {
        let labels = RunbookLabels { runbook: self.runbook(runbook) };
        self.0.families.time_to_remediation.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// The first step of an execution started, `after` its webhook was received.
    pub fn reacted(&self, after: Duration) {
        self.0.families.reaction.observe(after.as_secs_f64());
    }

    /// A step ended as `outcome`; `ran` is its time in all attempts, `None` when none was made.
    ///
    /// A status that a step does not end in counts nothing.
    pub fn step_finished(
        &self,
        runbook: &RunbookId,
        kind: StepKind,
        outcome: StepStatus,
        ran: Option<Duration>,
    ) {
        if !families::STEP_OUTCOMES.contains(&outcome) {
            return;
        }
        self.0.families.steps.get_or_create(&self.step_labels(runbook, kind, outcome)).inc();
        if let Some(ran) = ran {
            let labels = KindLabels { kind: kind.as_str() };
            self.0.families.step_duration.get_or_create(&labels).observe(ran.as_secs_f64());
        }
    }

    /// A further attempt of a step, or of its undo, was scheduled.
    pub fn retry_scheduled(&self, runbook: &RunbookId) {
        let labels = RunbookLabels { runbook: self.runbook(runbook) };
        self.0.families.step_retries.get_or_create(&labels).inc();
    }

    /// One batch of `works` units of work became durable in `took`.
    pub fn journal_committed(&self, works: usize, took: Duration) {
        self.0.families.commit_duration.observe(took.as_secs_f64());
        self.0.families.commit_batch.observe(works as f64);
    }

    /// A request was answered with `code`. `route` is the matched template, `None` when nothing matched;
    /// a route that was never registered counts as `(unmatched)`, a method nobody defined as `other`.
    pub fn http_answered(&self, route: Option<&str>, method: &str, code: u16, took: Duration) {
        let route = self.0.routes.get(route.unwrap_or_default());
        let labels = HttpLabels { route: route.clone(), method: method_word(method), code: Code::new(code) };
        self.0.families.http_requests.get_or_create(&labels).inc();
        self.0.families.http_duration.get_or_create(&RouteLabels { route }).observe(took.as_secs_f64());
    }

    /// A request on `route`, the matched template, was refused because its caller asked too often.
    pub fn rate_limited(&self, route: &str) {
        let labels = RouteLabels { route: self.0.routes.get(route) };
        self.0.families.rate_limited.get_or_create(&labels).inc();
    }

    /// A certificate is served that ends `at` so many seconds after 1970.
    pub fn certificate_served(&self, at: i64) {
        self.0.certificate_expiry.store(at, Ordering::Relaxed);
    }

    /// A request was refused for who sent it.
    pub fn auth_failed(&self, reason: AuthFailure) {
        self.0.families.auth_failures.get_or_create(&AuthLabels { reason: reason.as_str() }).inc();
    }

    /// Config and every runbook file were read without a problem, at `at`; the start counts as the first time.
    pub fn config_loaded(&self, at: Timestamp) {
        self.0.families.reload_successful.set(1);
        self.0.families.reload_success_time.set(seconds_since_epoch(at));
    }

    /// Config or a runbook file could not be used, and the last good one stays.
    pub fn config_refused(&self) {
        self.0.families.reload_successful.set(0);
    }

    /// The newest backup that was taken by the clock is of `at`.
    pub fn backup_written(&self, at: Timestamp) {
        self.0.families.backup_success_time.set(seconds_since_epoch(at));
    }

    /// A backup by the clock could not be written.
    pub fn backup_failed(&self) {
        self.0.families.backup_failures.inc();
    }

    /// The answer to a scrape: its `Content-Type` and its body.
    ///
    /// Text format 0.0.4, unless `accept` (the header's value) prefers `application/openmetrics-text`.
    pub fn encode(&self, accept: Option<&str>, now: &Gauges) -> (&'static str, String) {
        let mut text = String::new();
        let expiry = Some(self.0.certificate_expiry.load(Ordering::Relaxed)).filter(|at| *at != 0);
        let current = families::current(now, &process::read(), expiry, |runbook| self.runbook(runbook));
        for registry in [&self.0.registry, &current] {
            if prometheus_client::encoding::text::encode_registry(&mut text, registry).is_err() {
                // Writing to a String cannot fail, and no family of ours has an encoder that can.
                tracing::error!("metrics could not be encoded");
            }
        }
        if exposition::wants_openmetrics(accept.unwrap_or_default()) {
            text.push_str("# EOF\n");
            (exposition::OPENMETRICS, text)
        } else {
            (exposition::TEXT, exposition::to_text_format(&text))
        }
    }

    fn runbook(&self, runbook: &RunbookId) -> Arc<str> {
        self.0.runbooks.get(runbook.as_str())
    }

    fn step_labels(&self, runbook: &RunbookId, kind: StepKind, outcome: StepStatus) -> StepLabels {
        StepLabels { runbook: self.runbook(runbook), kind: kind.as_str(), outcome: outcome.as_str() }
    }
}

fn seconds_since_epoch(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}
