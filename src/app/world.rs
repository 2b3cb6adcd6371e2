//! The engine's world: real processes, real requests, the real Prometheus.

use super::SystemClock;
use crate::admit::late::Confirmation;
use crate::engine::{Runbooks, World};
use crate::model::{Clock as _, Labels, RunbookId};
use crate::routing::{Library, Listed};
use crate::runbook::Pinned;
use crate::secret::Secrets;
use crate::step::{
    AlertStanding, AlertmanagerClient, AttemptContext, Call, Finished, KillSignal, PromClient, QueryAnswer,
    Runner,
};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// How long one question to Prometheus may take.
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);

/// The runbooks in force, as steps that start one see them.
pub(super) struct Shelved(pub(super) Arc<RwLock<Arc<Library>>>);

impl Runbooks for Shelved {
    fn current(&self, id: &RunbookId) -> Option<Arc<Pinned>> {
        let library = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        match library.get(id) {
            Some(Listed::Good(pinned)) => Some(Arc::clone(pinned)),
            Some(Listed::Broken) | None => None,
        }
    }
}

/// The world of the daemon.
pub(super) struct RealWorld {
    pub(super) runner: Arc<Runner>,
    pub(super) prometheus: Option<PromClient>,
    pub(super) alertmanager: Option<AlertmanagerClient>,
    /// Kept out of what others say.
    pub(super) secrets: Secrets,
}

impl World for RealWorld {
    fn attempt(&self, context: AttemptContext, call: Call, kill: KillSignal) -> BoxFuture<'static, Finished> {
        let runner = Arc::clone(&self.runner);
        async move { runner.run(&context, &call, kill).await }.boxed()
    }

    fn has_alertmanager(&self) -> bool {
        self.alertmanager.is_some()
    }

    fn confirm(&self, labels: Labels) -> BoxFuture<'static, Result<Confirmation, String>> {
        let (alertmanager, secrets) = (self.alertmanager.clone(), self.secrets.clone());
        async move {
            let alertmanager = alertmanager.ok_or("no [alertmanager] urls are configured")?;
            let standing = alertmanager.standing(&labels, SystemClock.now()).await;
            let AlertStanding { known, silenced_by, inhibited_by, receivers, unanswered, containing, more } =
                standing.map_err(|error| secrets.hide(&error.to_string()))?;
            Ok(Confirmation { known, silenced_by, inhibited_by, receivers, unanswered, containing, more })
        }
        .boxed()
    }

    fn query(&self, promql: String) -> BoxFuture<'static, Result<QueryAnswer, String>> {
        let (prometheus, secrets) = (self.prometheus.clone(), self.secrets.clone());
        async move {
            let prometheus = prometheus.ok_or("no [prometheus] url is configured")?;
            let answer = prometheus.query(&promql, QUERY_TIMEOUT).await;
            answer.map_err(|error| secrets.hide(&error.to_string()))
        }
        .boxed()
    }
}
