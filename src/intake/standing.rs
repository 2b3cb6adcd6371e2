//! What stands for and against an alert beside its episode: read and brought up to date in the request's unit of work,
//! so that two alerts in one body see each other.

use super::ruling::Ground;
use crate::admit::{self, Denial, Guards};
use crate::guard::{
    BreakerKey, BreakerRecord, Quarantine, Runs, Settings, Storm, StormLimit, Targets, flapping,
};
use crate::journal::Created;
use crate::model::{Alert, AlertStatus, Episode, PlannedStep, Reason, Timestamp};
use crate::routing::Route;
use crate::runbook::Mode;
use crate::store::records::guards::{self, Book};
use crate::store::records::{breaker, quarantine};
use crate::store::{CommitError, Txn};

/// How much of a plan a decision holds, in bytes.
const PLAN_MAX: usize = 8 << 10;

/// What is known.
pub(super) struct Standing {
    pub(super) quarantine: Option<Quarantine>,
    pub(super) breaker: Option<BreakerRecord>,
    pub(super) settings: Settings,
    book: Book,
    runs: Runs,
    targets: Targets,
    storm: Option<(StormLimit, Storm)>,
    /// When the alert changed, this delivery included.
    pub(super) changes: Vec<Timestamp>,
}

impl Standing {
    /// Nothing but what is in force.
    fn blank(ground: &Ground<'_>, route: &Route) -> Self {
        let pinned = route.pinned();
        let settings = pinned.map(|pinned| pinned.runbook.guard.settings.over(ground.guard));
        let is_shadow = pinned.is_some_and(|pinned| pinned.runbook.mode == Mode::Shadow);
        Self {
            quarantine: None,
            breaker: None,
            settings: settings.unwrap_or_else(|| ground.guard.clone()),
            book: if is_shadow { Book::Shadow } else { Book::Real },
            runs: Runs::default(),
            targets: Targets::default(),
            storm: None,
            changes: Vec::new(),
        }
    }

    /// What is known of a due time of a schedule: it opens no episode, and stands in no storm's count.
    pub(super) fn of_schedule(
        txn: &mut dyn Txn,
        ground: &Ground<'_>,
        route: &Route,
        plan: Option<&Result<Created, Denial>>,
    ) -> Result<Self, CommitError> {
        let mut standing = Self::blank(ground, route);
        if let Some(limit) = ground.storm {
            standing.storm = Some((limit, guards::storm(txn, ground.counted)?));
        }
        if let Some(Ok(created)) = plan {
            standing.of_plan(txn, created, ground.counted)?;
        }
        Ok(standing)
    }

    /// What is known of `alert`, whose episode was `before`; it counts from now on if it opens one.
    pub(super) fn of(
        txn: &mut dyn Txn,
        ground: &Ground<'_>,
        alert: &Alert,
        before: Option<&Episode>,
        route: &Route,
        plan: Option<&Result<Created, Denial>>,
    ) -> Result<Self, CommitError> {
        let now = ground.counted;
        let mut standing = Self::blank(ground, route);
        standing.changes = before.map(|before| before.changes.clone()).unwrap_or_default();
        if before.is_some_and(|before| turns(alert, before)) {
            standing.changes = flapping::changed(&standing.changes, now);
        }
        if let Some(limit) = ground.storm {
            let mut storm = guards::storm(txn, now)?;
            if matches!(route, Route::Selected { .. }) && opens(ground, alert, before) {
                storm.began(limit, now);
                guards::put_storm(txn, &storm)?;
            }
            standing.storm = Some((limit, storm));
        }
        if let Some(Ok(created)) = plan {
            standing.of_plan(txn, created, now)?;
        }
        Ok(standing)
    }

    fn of_plan(&mut self, txn: &mut dyn Txn, created: &Created, now: Timestamp) -> Result<(), CommitError> {
        let (runbook, target) = (&created.runbook, created.target.as_ref());
        self.quarantine = target.map(|target| quarantine::get(txn, target)).transpose()?.flatten();
        let key = BreakerKey::of_runbook(runbook, target);
        self.breaker = breaker::get(txn, key.as_str())?;
        if self.settings.counts_runs() {
            self.runs = guards::runs(txn, self.book, runbook, target, now)?;
        }
        if self.settings.max_targets.is_some() && target.is_some() {
            self.targets = guards::targets(txn, self.book, runbook, now)?;
        }
        Ok(())
    }

    /// As the gates see it.
    pub(super) fn guards<'s>(&'s self, ground: &'s Ground<'_>) -> Guards<'s> {
        Guards {
            settings: &self.settings,
            runs: &self.runs,
            targets: &self.targets,
            storm: self.storm.as_ref().map(|(limit, storm)| (*limit, storm)),
            freezes: ground.freezes,
            changes: &self.changes,
            counted: ground.counted,
        }
    }

    /// Counts what a runbook in shadow mode would have done about an alert that was decided anew, and says what that
    /// is, step by step, where it would have run.
    pub(super) fn tell_shadow(
        &self,
        txn: &mut dyn Txn,
        ground: &Ground<'_>,
        route: &Route,
        plan: Option<&Result<Created, Denial>>,
        reason: Reason,
    ) -> Result<Vec<PlannedStep>, CommitError> {
        let asks_nothing =
            matches!(reason, Reason::Resolved | Reason::Stale | Reason::Repeat | Reason::NotAllowed);
        let Some(pinned) = route.pinned().filter(|pinned| pinned.runbook.mode == Mode::Shadow) else {
            return Ok(Vec::new());
        };
        if asks_nothing {
            return Ok(Vec::new());
        }
        guards::tell_shadow(txn, &pinned.runbook.id, pinned.version, reason, ground.counted)?;
        match plan {
            Some(Ok(created)) if reason == Reason::Shadow => {
                guards::started(txn, Book::Shadow, created, &self.settings, ground.counted)?;
                Ok(crate::plan::would_do(&pinned.runbook, created, ground.now, PLAN_MAX))
            }
            _ => Ok(Vec::new()),
        }
    }
}

/// Whether a delivery tells that the alert is no longer as it was.
fn turns(alert: &Alert, before: &Episode) -> bool {
    match alert.status {
        AlertStatus::Firing => before.resolved_at.is_some() && !admit::is_stale(alert, before),
        AlertStatus::Resolved => before.resolved_at.is_none() && !super::ruling::is_late(alert, before),
    }
}

/// Whether a delivery begins an episode.
fn opens(ground: &Ground<'_>, alert: &Alert, before: Option<&Episode>) -> bool {
    alert.status == AlertStatus::Firing
        && admit::open_episode(before, ground.now, ground.episode_ttl).is_none()
        && !before.is_some_and(|before| admit::is_stale(alert, before))
}
