//! The engine's world: real processes, real requests, the real Prometheus.

use crate::engine::{Runbooks, World};
use crate::model::RunbookId;
use crate::routing::{Library, Listed};
use crate::runbook::Pinned;
use crate::step::{AttemptContext, Call, Finished, KillSignal, PromClient, QueryAnswer, Runner};
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
}

impl World for RealWorld {
    fn attempt(&self, context: AttemptContext, call: Call, kill: KillSignal) -> BoxFuture<'static, Finished> {
        let runner = Arc::clone(&self.runner);
        async move { runner.run(&context, &call, kill).await }.boxed()
    }

    fn query(&self, promql: String) -> BoxFuture<'static, Result<QueryAnswer, String>> {
        let prometheus = self.prometheus.clone();
        async move {
            let prometheus = prometheus.ok_or("no [prometheus] url is configured")?;
            prometheus.query(&promql, QUERY_TIMEOUT).await.map_err(|error| error.to_string())
        }
        .boxed()
    }
}
