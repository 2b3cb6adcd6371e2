//! Opening the edge, and what is kept for it while it is open: its certificate and its counts of callers.

use super::build::{self, EdgeMetrics};
use super::clock::SystemClock;
use super::door::Door;
use crate::config::Config;
use crate::document::Severity;
use crate::http::handler::{Services, routes};
use crate::http::{Edge, Limiter, Look, Snapshot, Table, Tls, TrustedProxies};
use crate::store::records::{Records, RequestsTold};
use crate::telemetry::Metrics;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// How often the files of the certificate are read.
const LOOK: Duration = Duration::from_secs(5);
/// How long after the first of two files the second may come, before it is called a mistake.
const TORN: Duration = Duration::from_secs(1);
/// How often counts are told and heard.
const TELL: Duration = Duration::from_secs(5);
/// Descriptors for everything but connections: the store, files of steps, the way to Alertmanager.
const OTHER_DESCRIPTORS: u64 = 1024;

/// The certificate the config names.
///
/// # Errors
/// What is wrong with it, with the place of the config that names it.
pub(super) fn load_tls(config: &Config) -> Result<Option<Arc<Tls>>, String> {
    let (Some(files), Some(tls)) = (build::tls_files(config), config.tls()) else { return Ok(None) };
    match Tls::load(files) {
        Ok(tls) => Ok(Some(Arc::new(tls))),
        Err(error) => {
            let help = "put the certificate, its intermediates and its key there as PEM";
            Err(tls.place.problem(Severity::Error, error.to_string(), help).to_string())
        }
    }
}

/// The edge over the routes of `services`.
///
/// # Errors
/// A sentence.
pub(super) fn build(
    config: &Config,
    services: &Arc<Services>,
    door: &Door,
    bound: SocketAddr,
) -> Result<Arc<Edge>, String> {
    let opening = door.prepare(config, bound).map_err(|error| error.to_string())?;
    let metrics = services.metrics.clone();
    let table = Table::new(routes(services)).map_err(|error| format!("the route table: {error}"))?;
    for route in table.iter() {
        metrics.register_route(route.path);
    }
    let tls = load_tls(config)?;
    if let Some(tls) = &tls {
        metrics.certificate_served(tls.expires());
    }
    let edge = Edge::new(
        table,
        door.open(opening),
        TrustedProxies::new(config.server.trusted_proxies.clone()),
        build::limits(config),
        Arc::clone(&services.clock),
        Arc::new(EdgeMetrics { metrics, clock: SystemClock, identity: services.identity.clone() }),
    );
    let edge = edge.with_tls(tls).with_secrets(services.secrets.clone());
    edge.replace_doors(build::doors(config));
    Ok(Arc::new(edge))
}

/// Lets the process have as many descriptors as its connections need: the limit it is born with is often below the
/// cap on connections, and a server without descriptors can neither accept nor open a file of a step.
pub(super) fn allow_descriptors(connections: usize) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let needed = connections as u64 + OTHER_DESCRIPTORS;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return;
    }
    let possible = limit.maximum.map_or(needed, |maximum| maximum.min(needed));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(possible), maximum: limit.maximum });
    if raised.is_err() || possible < needed {
        tracing::warn!(
            possible,
            needed,
            "fewer file descriptors may be open than server.max_connections needs; raise the limit (LimitNOFILE)"
        );
    }
}

/// Looks for a renewed certificate until it is dropped, and rings `changed` when whether it is good changed.
pub(super) async fn keep_certificate(edge: Arc<Edge>, metrics: Metrics, changed: Arc<Notify>) {
    let Some(tls) = edge.tls() else { return };
    loop {
        tokio::time::sleep(LOOK).await;
        let was_current = tls.is_current();
        if let Look::Refused(why) = look(tls, &metrics).await {
            // Certificate and key are two files, and somebody may be between them.
            tokio::time::sleep(TORN).await;
            look(tls, &metrics).await;
            if !tls.is_current() {
                tracing::error!(%why, expires = tls.expires(), "the new certificate is refused; the old one stays");
            }
        }
        if was_current != tls.is_current() {
            changed.notify_one();
        }
    }
}

async fn look(tls: &Arc<Tls>, metrics: &Metrics) -> Look {
    let looking = Arc::clone(tls);
    let look = tokio::task::spawn_blocking(move || looking.look()).await.unwrap_or(Look::Same);
    if matches!(look, Look::Renewed) {
        metrics.certificate_served(tls.expires());
        tracing::info!(expires = tls.expires(), "a new certificate is in force");
    }
    look
}

/// The counts of callers, told to the store and heard from it.
#[derive(Clone)]
pub(super) struct Limits {
    limiter: Arc<Limiter>,
    records: Records,
    instance: String,
}

impl Limits {
    /// Takes up what an earlier life and the other instances have counted. Without it, everybody begins afresh.
    pub(super) async fn begin(edge: &Arc<Edge>, services: &Arc<Services>) -> Self {
        let limits = Self {
            limiter: Arc::clone(edge.limiter()),
            records: services.records.clone(),
            instance: services.instance.clone(),
        };
        let (own, others) = limits.stored().await;
        own.into_iter().for_each(|own| limits.limiter.resume(own));
        limits.limiter.heard(others);
        limits
    }

    /// Tells and hears until it is dropped.
    pub(super) async fn keep(self) {
        loop {
            tokio::time::sleep(TELL).await;
            // Nobody asks: nothing to limit.
            if self.limiter.was_asked() {
                self.tell().await;
                let (_, others) = self.stored().await;
                self.limiter.heard(others);
            }
        }
    }

    /// Tells what is new. What cannot be told now is told with the next.
    pub(super) async fn tell(&self) {
        let Some(snapshot) = self.limiter.to_tell() else { return };
        let Ok(told) = serde_json::to_value(&snapshot) else { return };
        let told = RequestsTold { instance: self.instance.clone(), told };
        if let Err(error) = self.records.tell_requests(told).await {
            tracing::debug!(%error, "the counts of requests could not be stored");
        }
    }

    /// What is stored: of this instance, and of the others. What cannot be read counts for nothing.
    async fn stored(&self) -> (Vec<Snapshot>, Vec<Snapshot>) {
        let all = self.records.requests_told().await.unwrap_or_default();
        let (own, others): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|told| told.instance == self.instance);
        let read = |told: Vec<RequestsTold>| {
            told.into_iter().filter_map(|told| serde_json::from_value(told.told).ok()).collect()
        };
        (read(own), read(others))
    }
}
