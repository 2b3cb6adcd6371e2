//! What answers each route. A handler reads its request, asks one room, and shapes the answer.
//!
//! May import: `api`, `auth`, `identity`, `admit` (a denial), `backup`, `intake`, `routing`, `runbook`, `engine`, `store::records`, `guard`, `report`, `step` (live
//! output), `telemetry`. Must never: decide who may do what (the table says), or write to the store by itself.

mod audit;
mod automation;
mod backup;
mod credentials;
mod decisions;
mod docs;
mod escalations;
mod executions;
mod guard;
mod history;
mod keys;
mod manual;
mod mappings;
mod operations;
mod runbooks;
mod schedules;
mod trial;
mod users;
mod webhook;

pub use history::refusal_of;

use super::docs::Shelf;
use super::route::{Access, BodyLimit, Handler, Method, Route, handler};
use super::{ApiError, Forbidden, Reply, Request};
use crate::auth::{Permission, Principal};
use crate::document::Problem;
use crate::engine::Engine;
use crate::identity::Identity;
use crate::intake::{Candidate, Intake};
use crate::model::{Clock, RunbookId};
use crate::routing::{Library, Listed};
use crate::runbook::{self, Runbook};
use crate::secret::{Secrets, Vault};
use crate::step::Runner;
use crate::store::records::Records;
use crate::store::{CommitError, ReadError};
use crate::telemetry::{AuthFailure, Metrics};
use futures_util::future::BoxFuture;
use serde_json::Value;
use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::Notify;

/// What a reload would put in force, as it is read from the disk; an error is a sentence.
pub type ReadCandidate = Box<dyn Fn() -> BoxFuture<'static, Result<Read, String>> + Send + Sync>;

/// What was read of the disk.
#[derive(Debug)]
pub struct Read {
    /// What decisions would rest on.
    pub candidate: Candidate,
    /// The runbooks whose files are not good: their last good version is taken, where there is one.
    pub broken: Vec<RunbookId>,
}

/// Everything the handlers ask.
pub struct Services {
    /// Takes webhooks.
    pub intake: Intake,
    /// Drives executions.
    pub engine: Engine,
    /// What is stored.
    pub records: Records,
    /// Who is who.
    pub identity: Identity,
    /// The runbooks that are live.
    pub library: Arc<RwLock<Arc<Library>>>,
    /// Runbook files whose last reading failed, with what is wrong.
    pub broken: Arc<RwLock<BTreeMap<RunbookId, Vec<Problem>>>>,
    /// Where runbooks are read, for people.
    pub runbooks_dir: String,
    /// Where output files are.
    pub outputs: PathBuf,
    /// Attempts in progress.
    pub runner: Arc<Runner>,
    /// Every secret there is.
    pub secrets: Secrets,
    /// What stored credentials are encrypted with; held while one changes.
    pub vault: tokio::sync::Mutex<Vault>,
    /// Numbers.
    pub metrics: Metrics,
    /// The config in force, item by item.
    pub config: RwLock<Value>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// This instance's name.
    pub instance: String,
    /// Set when recovery is done; unset when the daemon drains.
    pub ready: AtomicBool,
    /// Set when the daemon drains.
    pub draining: AtomicBool,
    /// Rung to reload, where `--web.enable-lifecycle` allows it.
    pub reload: Option<Arc<Notify>>,
    /// Reads what a reload would put in force.
    pub candidate: ReadCandidate,
    /// When the last webhook was accepted, in milliseconds since 1970; 0 for never.
    pub last_webhook: std::sync::atomic::AtomicI64,
}

impl Services {
    fn library(&self) -> Arc<Library> {
        Arc::clone(&self.library.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn broken(&self) -> BTreeMap<RunbookId, Vec<Problem>> {
        self.broken.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }
}

/// What is sent with a control.
const CONTROL_BODY: BodyLimit = BodyLimit::Json(64 << 10);

/// What is sent to sign in, or for a key.
const LOGIN_BODY: BodyLimit = BodyLimit::Json(16 << 10);

/// What is sent with an execution: annotations can be long.
const EXECUTE_BODY: BodyLimit = BodyLimit::Json(1 << 20);

/// What is simulated: a webhook's body.
const SIMULATE_BODY: BodyLimit = BodyLimit::Json(32 << 20);

/// The routes of the program.
#[expect(clippy::too_many_lines, reason = "a table, read line by line")]
pub fn routes(services: &Arc<Services>) -> Vec<Route> {
    use Access::{Needs, Open, OwnPages, SignedIn};
    use Method::Get;
    const READ: Access = Needs(Permission::Read);
    const EXECUTE: Access = Needs(Permission::Execute);
    const EDIT: Access = Needs(Permission::Edit);
    const AUDIT: Access = Needs(Permission::Audit);
    const SECRETS: Access = Needs(Permission::Secrets);
    let get = |path, access, handler| route(&[Get], path, access, BodyLimit::None, handler);
    let post = |path, handler| route(&[Method::Post], path, EXECUTE, CONTROL_BODY, handler);
    let s = |f| with(services, f);
    let shelf = Arc::new(Shelf::default());
    let routes = vec![
        Route {
            trailing_slash: true,
            ..route(
                &[Method::Post, Method::Put],
                "/api/sre/alerts/webhook",
                Access::Webhook,
                BodyLimit::Webhook,
                with(services, webhook::accept),
            )
        },
        get("/api/sre/runbooks/integration-status", READ, with(services, operations::integration_status)),
        get("/api/runbooks", READ, with(services, runbooks::list)),
        get("/api/runbooks/{id}", READ, with(services, runbooks::show)),
        route(&[Method::Post], "/api/runbooks/{id}", EXECUTE, EXECUTE_BODY, with(services, manual::execute)),
        route(
            &[Method::Post],
            "/api/runbooks/{id}/execute",
            EXECUTE,
            EXECUTE_BODY,
            with(services, manual::execute),
        ),
        get("/api/runbooks/{id}/versions", READ, with(services, runbooks::versions)),
        get("/api/runbooks/{id}/shadow", READ, with(services, runbooks::shadow)),
        get("/api/runbooks/{id}/history", READ, with(services, history::list)),
        get("/api/executions", READ, with(services, executions::list)),
        get("/api/executions/{id}", READ, with(services, executions::show)),
        get("/api/executions/{id}/events", READ, with(services, executions::events)),
        get(
            "/api/executions/{id}/output/{step}/{attempt}/{stream}",
            READ,
            with(services, executions::output),
        ),
        post("/api/executions/{id}/control", with(services, executions::control)),
        post("/api/executions/{id}/stop", with(services, executions::stop)),
        get("/api/decisions", READ, with(services, decisions::list)),
        get("/api/decisions/{id}", READ, with(services, decisions::show)),
        get("/api/automation", READ, with(services, automation::show)),
        route(&[Method::Put], "/api/automation", EXECUTE, CONTROL_BODY, with(services, automation::set)),
        get("/api/mappings", READ, with(services, mappings::list)),
        route(&[Method::Put], "/api/mappings/{name}", EDIT, CONTROL_BODY, with(services, mappings::set)),
        route(
            &[Method::Delete],
            "/api/mappings/{name}",
            EDIT,
            CONTROL_BODY,
            with(services, mappings::delete),
        ),
        get("/api/schedules", READ, with(services, schedules::list)),
        route(&[Method::Post], "/api/explain", READ, CONTROL_BODY, with(services, trial::explain)),
        route(&[Method::Post], "/api/simulate", READ, SIMULATE_BODY, with(services, trial::simulate)),
        get("/api/escalations", READ, with(services, escalations::list)),
        get("/api/escalations/{id}", READ, with(services, escalations::show)),
        post("/api/escalations/{id}/acknowledge", with(services, escalations::acknowledge)),
        post("/api/notifiers/{name}/test", with(services, escalations::test)),
        get("/api/breakers", READ, with(services, guard::breakers)),
        post("/api/breakers/{key}/reset", with(services, guard::reset)),
        post("/api/breakers/{key}/open", with(services, guard::open)),
        get("/api/quarantine", READ, with(services, guard::quarantined)),
        route(
            &[Method::Delete],
            "/api/quarantine/{target}",
            EXECUTE,
            CONTROL_BODY,
            with(services, guard::clear),
        ),
        get("/api/credentials", SECRETS, with(services, credentials::list)),
        route(
            &[Method::Post],
            "/api/credentials",
            SECRETS,
            CONTROL_BODY,
            with(services, credentials::create),
        ),
        route(
            &[Method::Delete],
            "/api/credentials/{id}",
            SECRETS,
            CONTROL_BODY,
            with(services, credentials::delete),
        ),
        get("/api/audit", AUDIT, with(services, audit::list)),
        get("/api/audit/verify", AUDIT, with(services, audit::verify)),
        route(&[Method::Post], "/api/users/signup", OwnPages, LOGIN_BODY, with(services, users::signup)),
        route(&[Method::Post], "/api/users/login", OwnPages, LOGIN_BODY, with(services, users::login)),
        route(&[Method::Post], "/api/users/logout", SignedIn, LOGIN_BODY, with(services, users::logout)),
        get("/api/keys", SignedIn, with(services, keys::list)),
        route(&[Method::Post], "/api/keys", SignedIn, LOGIN_BODY, with(services, keys::create)),
        route(&[Method::Delete], "/api/keys/{id}", SignedIn, LOGIN_BODY, with(services, keys::revoke)),
        route(&[Method::Post], "/dev-login", OwnPages, LOGIN_BODY, with(services, users::dev_login)),
        route(
            &[Method::Post],
            "/api/backup",
            Needs(Permission::Admin),
            CONTROL_BODY,
            with(services, backup::take),
        ),
        get("/api/config", Needs(Permission::Admin), with(services, operations::config)),
        get("/health", Open, with(services, operations::health)),
        get("/-/healthy", Open, with(services, operations::healthy)),
        get("/-/ready", Open, with(services, operations::ready)),
        get("/metrics", Open, s(operations::metrics)),
        route(&[Method::Post], "/-/reload", Open, BodyLimit::None, with(services, operations::reload)),
        get("/docs/explorer.html", Open, docs::explorer()),
        get("/docs/openapi.json", Open, docs::document(&shelf, "application/json", |written| &written.json)),
        get("/docs/openapi.yaml", Open, docs::document(&shelf, "application/yaml", |written| &written.yaml)),
    ];
    shelf.describe(&routes);
    routes
}

fn route(
    methods: &'static [Method],
    path: &'static str,
    access: Access,
    limit: BodyLimit,
    handler: Handler,
) -> Route {
    Route { methods, path, trailing_slash: false, access, limit, handler }
}

/// A handler that is given the services.
fn with<F, A>(services: &Arc<Services>, answer: F) -> Handler
where
    F: Fn(Arc<Services>, Request) -> A + Send + Sync + Copy + 'static,
    A: Future<Output = Result<Reply, ApiError>> + Send + 'static,
{
    let services = Arc::clone(services);
    handler(move |request| {
        let mutates = request.method != Method::Get && request.route != WEBHOOK;
        let (metrics, answered) = (services.metrics.clone(), answer(Arc::clone(&services), request));
        async move {
            let answered = answered.await;
            // A change and its audit record are one commit: what refuses the one refuses the other.
            if mutates && answered.as_ref().is_err_and(|error| error.code() == NOT_DURABLE) {
                metrics.audit_write_failed();
            }
            answered
        }
    })
}

/// What this program is sent by others than people changes nothing that the audit log tells of.
const WEBHOOK: &str = "/api/sre/alerts/webhook";

/// The code of a change that could not be made durable.
const NOT_DURABLE: &str = "store_unavailable";

/// A store that cannot be read: nothing the caller can mend.
fn unreadable(error: &ReadError) -> ApiError {
    tracing::error!(%error, "the store cannot be read");
    ApiError::unavailable(
        "store_unreadable",
        "the store cannot be read; see the log",
        Duration::from_secs(10),
    )
}

/// A change that did not happen, because it and its audit record could not be made durable together.
fn not_durable(error: &CommitError) -> ApiError {
    if let CommitError::Read(error) = error {
        return unreadable(error);
    }
    tracing::error!(%error, "a change was refused: it could not be made durable");
    ApiError::unavailable(
        NOT_DURABLE,
        "the change could not be made durable, nothing of it remains; try it again",
        Duration::from_secs(5),
    )
}

/// 403, told in the words the edge uses when a permission is missing: people alert on them.
fn refuse(services: &Services, request: &Request, why: String) -> ApiError {
    tracing::warn!(
        user = request.user(),
        request_id = request.id,
        route = request.route,
        why,
        "RBAC failure"
    );
    services.metrics.auth_failed(AuthFailure::Forbidden);
    let (about, route, client, reads) = (request.param("id"), request.route, request.client, false);
    let refused = request.principal.as_ref().and_then(|who| {
        refusal_of(Forbidden { who, route, about, reads, client, request_id: &request.id, why: &why })
    });
    refused.into_iter().for_each(|refusal| services.identity.refused(refusal));
    ApiError::forbidden(why)
}

/// Whether the claims a runbook requires are held. What cannot be read denies.
fn claims_allow(services: &Services, runbook: Option<&Runbook>, request: &Request) -> Result<(), ApiError> {
    let denied = |why: String| Err(refuse(services, request, why));
    let who = request.principal.as_ref();
    let Some(who) = who else { return denied("nobody is asking".to_owned()) };
    // On a loopback address without authentication there are no claims, and everybody is everything.
    if who.is_anonymous() {
        return Ok(());
    }
    let Some(runbook) = runbook else {
        return denied("the claims this runbook requires cannot be read".to_owned());
    };
    for (claim, allowed) in &runbook.required_claims {
        let have = claim_values(who, claim);
        if have.is_empty() {
            return denied(format!("missing or invalid claims: {claim} (not present)"));
        }
        if !have.iter().any(|value| allowed.contains(value)) {
            let (have, allowed) = (have.join(","), allowed.join(","));
            return denied(format!("missing or invalid claims: {claim}={have} (required: {allowed})"));
        }
    }
    Ok(())
}

/// Whether the claims of a runbook are held: those of the runbook as it is now, and where it is gone, of this stored
/// version, or of the last one.
async fn check_claims(
    services: &Services,
    request: &Request,
    id: &RunbookId,
    version: Option<u64>,
) -> Result<(), ApiError> {
    let runbook: Option<Runbook> = match services.library().get(id) {
        Some(Listed::Good(pinned)) => Some(pinned.runbook.clone()),
        _ => {
            let stored = match version {
                Some(version) => services.records.version(id, version).await,
                None => services.records.versions(id).await.map(|mut versions| versions.pop()),
            };
            let stored = stored.map_err(|error| unreadable(&error))?;
            stored.and_then(|stored| runbook::parse(id, &stored.file_name, &stored.text).runbook)
        }
    };
    claims_allow(services, runbook.as_ref(), request)
}

/// A claim's values: a list of texts, or a text split at commas.
fn claim_values(who: &Principal, claim: &str) -> Vec<String> {
    let split = |text: &str| {
        text.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
    };
    if claim == "roles" {
        return who.roles.clone();
    }
    match who.claims.get(claim) {
        Some(Value::String(text)) => split(text),
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}
