//! One request, from its head to its answer: the order of refusal is decided here and nowhere else.
//!
//! 431, 414, 400 for a head that cannot be meant; 404 and 405 by the route table; 401, 429, 403 at the `doors`; 413
//! and 415 by what is announced; then the body is read, and the handler runs in a task of its own. May import: `auth`, `model`.
//! Must never: read a byte of the body before the sender may send it.

use super::admission::Asked;
use super::body::{Held, check_announced, discard, read};
use super::doors::Doors;
use super::observe::{Refusals, UNMATCHED};
use super::proxy::TrustedProxies;
use super::reply::{Manner, ReplyBody};
use super::request::{Query, Request, decode};
use super::route::{Access, BodyLimit, Found, Method, Route, Table};
use super::standing::Standing;
use super::streams::{OpenStream, Streams};
use super::watch::{EndOfReply, Framing};
use super::{ApiError, Limiter, Limits, Observer, Reply, Tls};
use crate::auth::Auth;
use crate::model::Clock;
use crate::secret::Secrets;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_ENCODING, HOST, HeaderMap, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use hyper::{Response, Version};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, TryAcquireError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;
use ulid::Ulid;

/// Header fields of a request, as many as hyper takes over HTTP/1.1.
const MAX_FIELDS: usize = 100;

/// Everything needed to answer requests: the routes, who may use them, and the limits.
pub struct Edge {
    pub(super) limits: Limits,
    pub(super) observer: Arc<dyn Observer>,
    /// Handlers in progress; the server waits for them.
    pub(super) handlers: TaskTracker,
    /// Cancelled when the server drains: ends streams.
    pub(super) drain: CancellationToken,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) trusted: TrustedProxies,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) refusals: Refusals,
    pub(super) limiter: Arc<Limiter>,
    table: Table,
    auth: RwLock<Arc<Auth>>,
    doors: RwLock<Arc<Doors>>,
    secrets: Secrets,
    streams: Streams,
    body_memory: Arc<AtomicU64>,
}

impl fmt::Debug for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Edge").field("table", &self.table).finish_non_exhaustive()
    }
}

/// What is known of a request by the time it is answered.
struct Seen {
    route: &'static str,
    method: &'static str,
    webhook: bool,
    user: Option<String>,
    /// Some of the body may still be on its way.
    unread: bool,
    /// The client speaks TLS, with us or with a proxy we trust.
    https: bool,
    stream: Option<OpenStream>,
}

/// What the connection knows of a request beside hyper's parts.
pub(super) struct Arrival {
    pub(super) peer: SocketAddr,
    /// What the head said of the body's length.
    pub(super) framing: Framing,
    pub(super) end: EndOfReply,
    /// Whether it came through TLS.
    pub(super) secure: bool,
    /// The names in the certificate the client proved to hold.
    pub(super) names: Arc<[String]>,
    /// Whether the connection is one too many, so that only health is told.
    pub(super) reserve: bool,
    /// Its place among the requests of an HTTP/2 connection; an error when all are taken.
    pub(super) slot: Option<Result<OwnedSemaphorePermit, TryAcquireError>>,
}

impl Seen {
    fn manner(&self, reserve: bool) -> Manner {
        Manner { unread: self.unread || reserve, https: self.https }
    }
}

impl Edge {
    /// An edge over these routes.
    pub fn new(
        table: Table,
        auth: Auth,
        trusted: TrustedProxies,
        limits: Limits,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
    ) -> Self {
        Self {
            limits,
            observer,
            handlers: TaskTracker::new(),
            drain: CancellationToken::new(),
            tls: None,
            trusted,
            clock,
            refusals: Refusals::default(),
            limiter: Arc::default(),
            table,
            auth: RwLock::new(Arc::new(auth)),
            doors: RwLock::default(),
            streams: Streams::default(),
            secrets: Secrets::default(),
            body_memory: Arc::default(),
        }
    }

    /// The same, through TLS.
    #[must_use]
    pub fn with_tls(self, tls: Option<Arc<Tls>>) -> Self {
        Self { tls, ..self }
    }

    /// The same, knowing what must not be said.
    #[must_use]
    pub fn with_secrets(self, secrets: Secrets) -> Self {
        Self { secrets, ..self }
    }

    /// Puts this in force beside the credentials, for requests whose head arrives from now on.
    pub fn replace_doors(&self, doors: Doors) {
        *self.doors.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(doors);
    }

    /// The certificate it shows.
    pub fn tls(&self) -> Option<&Arc<Tls>> {
        self.tls.as_ref()
    }

    /// Who has asked how often.
    pub fn limiter(&self) -> &Arc<Limiter> {
        &self.limiter
    }

    pub(super) fn doors(&self) -> Arc<Doors> {
        Arc::clone(&self.doors.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts new credentials in force, for requests whose head arrives from now on.
    pub fn replace_auth(&self, auth: Auth) {
        *self.auth.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(auth);
    }

    /// The route table.
    pub fn table(&self) -> &Table {
        &self.table
    }

    pub(super) fn auth(&self) -> Arc<Auth> {
        Arc::clone(&self.auth.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Answers one request.
    pub(super) async fn answer(
        self: &Arc<Self>,
        mut arrival: Arrival,
        request: hyper::Request<Incoming>,
    ) -> Response<ReplyBody> {
        let received = Instant::now();
        let (parts, mut body) = request.into_parts();
        let id = request_id(&parts.headers);
        let method = Method::read(&parts.method);
        let mut seen = Seen {
            route: UNMATCHED,
            method: match method {
                Some((_, true)) => "HEAD",
                Some((method, false)) => method.as_str(),
                None => "other",
            },
            webhook: false,
            user: None,
            unread: !body.is_end_stream(),
            https: arrival.secure,
            stream: None,
        };
        let path = parts.uri.path().to_owned();
        let outcome = self.decide(&mut arrival, parts, method, &mut body, &id, received, &mut seen).await;
        let (reply, code) = match outcome {
            Ok(reply) => (reply, ""),
            Err(error) => {
                let code = error.code();
                (error.without(&self.secrets.redactor()).into_reply(), code)
            }
        };
        let asked_for = self.doors();
        let reply = asked_for.headers.iter().fold(reply, |reply, (name, value)| reply.or_header(name, value));
        let status = reply.status_code();
        let duration = received.elapsed();
        self.observer.request(seen.route, seen.method, status, duration);
        tracing::debug!(
            method = seen.method, route = seen.route, path, status, code, request_id = id,
            user = seen.user.as_deref().unwrap_or(""), peer = %arrival.peer,
            duration_ms = duration.as_millis() as u64, "request"
        );
        if seen.webhook {
            self.log_refusal(status, code, arrival.peer.ip(), &id);
        }
        if seen.unread && arrival.end.shares() {
            let limits = self.limits.clone();
            tokio::spawn(async move { discard(body, &limits).await });
        }
        reply.finish(&id, &seen.manner(arrival.reserve), seen.stream, &self.drain, arrival.end)
    }

    #[expect(clippy::too_many_arguments, reason = "one call; a struct for it would only rename the list")]
    async fn decide(
        self: &Arc<Self>,
        arrival: &mut Arrival,
        parts: Parts,
        method: Option<(Method, bool)>,
        body: &mut Incoming,
        id: &str,
        received: Instant,
        seen: &mut Seen,
    ) -> Result<Reply, ApiError> {
        self.check_head(&parts, arrival.framing)?;
        let path = parts.uri.path();
        if parts.method == hyper::Method::CONNECT || path == "*" {
            return Err(ApiError::method_not_allowed(self.table.all_methods()));
        }
        let (route, params) = match self.table.find(method, path) {
            Found::Route(route, params) => (route, params),
            Found::OtherMethods(allow) => return Err(ApiError::method_not_allowed(allow)),
            Found::Nothing => return Err(ApiError::not_found("this path")),
        };
        seen.route = route.path;
        seen.webhook = route.access == Access::Webhook;
        let params = decode_params(params)?;
        let query = Query::read(parts.uri.query().unwrap_or(""))
            .ok_or_else(|| ApiError::malformed("the query cannot be decoded"))?;
        let (client, https) = self.trusted.client(arrival.peer, &parts.headers);
        seen.https |= https;
        let slot = self.place(arrival, route)?;
        let verb = method.map_or(Method::Get, |(method, _)| method);
        let asked = Asked {
            route,
            method: verb,
            params: &params,
            headers: &parts.headers,
            names: &arrival.names,
            id,
            peer: arrival.peer.ip(),
            client,
            https: seen.https,
            again: false,
        };
        let principal = self.admit(&asked).await?;
        seen.user = principal.as_ref().map(|who| who.subject.clone());
        let standing = principal.as_ref().and_then(|_| Standing::of(&asked, path, &arrival.names));
        let mut held = Held::new(&self.body_memory, slot);
        let body = self.take_body(route, &parts.headers, body, &mut held, seen).await?;
        let request = Request {
            method: verb,
            head: method.is_some_and(|(_, head)| head),
            route: route.path,
            params,
            query,
            headers: parts.headers,
            peer: arrival.peer,
            client,
            https: seen.https,
            body,
            id: id.to_owned(),
            principal,
            received,
            secrets: self.secrets.clone(),
            _held: held,
        };
        let reply = self.run(route, request).await?;
        self.watch(reply, standing, client, seen)
    }

    /// Counts a stream of events, and ends any stream when whoever asked may no longer see it.
    fn watch(
        self: &Arc<Self>,
        reply: Reply,
        standing: Option<Standing>,
        client: IpAddr,
        seen: &mut Seen,
    ) -> Result<Reply, ApiError> {
        if reply.is_events() {
            let caller = seen.user.clone().unwrap_or_default() + "\0" + &client.to_string();
            let open = self.streams.open(caller);
            seen.stream = Some(open.map_err(ApiError::too_many_streams)?);
        }
        Ok(match standing {
            Some(standing) if reply.is_stream() => reply.until(Arc::clone(self).lapse(standing)),
            _ => reply,
        })
    }

    /// The place of a request among those in progress, if it needs one.
    fn place(&self, arrival: &mut Arrival, route: &Route) -> Result<Option<OwnedSemaphorePermit>, ApiError> {
        if arrival.reserve && !route.is_health() {
            self.observer.connection_refused();
            return Err(ApiError::too_many_connections());
        }
        let slot = arrival.slot.take().transpose();
        slot.map_err(|_| ApiError::overloaded("too many requests at the same time"))
    }

    fn check_head(&self, parts: &Parts, framing: Framing) -> Result<(), ApiError> {
        // Four bytes for the colon, the space and the line end of each field.
        let size: usize =
            parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        if size > self.limits.max_headers || parts.headers.len() > MAX_FIELDS {
            return Err(ApiError::headers_too_large(self.limits.max_headers));
        }
        if parts.uri.path().len() + parts.uri.query().map_or(0, str::len) > self.limits.max_uri {
            return Err(ApiError::uri_too_long(self.limits.max_uri));
        }
        // Right behind another request nobody has a reason to send a body in chunks, but a smuggler.
        let unseen = framing == Framing::Unseen && parts.headers.contains_key(TRANSFER_ENCODING);
        if framing == Framing::Ambiguous || unseen {
            // A proxy in front may have believed the other one: what follows could be anybody's request.
            let message = "Content-Length and Transfer-Encoding exclude each other";
            return Err(ApiError::malformed(message));
        }
        let hosts = parts.headers.get_all(HOST).iter().count();
        if hosts > 1 || (hosts == 0 && parts.version == Version::HTTP_11) {
            return Err(ApiError::malformed("one Host header is required"));
        }
        Ok(())
    }

    async fn take_body(
        &self,
        route: &Route,
        headers: &HeaderMap,
        body: &mut Incoming,
        held: &mut Held,
        seen: &mut Seen,
    ) -> Result<bytes::Bytes, ApiError> {
        let limit = match route.limit {
            BodyLimit::None => return Ok(bytes::Bytes::new()),
            BodyLimit::Json(limit) => limit,
            BodyLimit::Webhook => self.limits.max_webhook_body,
        };
        check_announced(body, limit)?;
        // A few bytes of gzip can be gigabytes of JSON; no sender of alerts compresses.
        let encoded =
            |value: &hyper::header::HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"identity");
        if headers.get_all(CONTENT_ENCODING).iter().any(encoded) {
            return Err(ApiError::unsupported_media_type("the body must not be compressed"));
        }
        let whole = read(body, limit, &self.limits, held).await?;
        seen.unread = false;
        Ok(whole)
    }

    /// Runs the handler in a task of its own, which a client that hangs up does not end.
    async fn run(&self, route: &Route, request: Request) -> Result<Reply, ApiError> {
        let span = tracing::info_span!("request", request_id = %request.id);
        let handler = Arc::clone(&route.handler);
        let id = request.id.clone();
        let task = self.handlers.spawn(async move { handler(request).await }.instrument(span));
        match task.await {
            Ok(outcome) => outcome,
            Err(ended) => {
                if ended.is_panic() {
                    self.observer.handler_panic();
                    tracing::error!(request_id = id, route = route.path, "a handler panicked");
                }
                Err(ApiError::internal())
            }
        }
    }

    fn log_refusal(&self, status: u16, code: &str, peer: IpAddr, id: &str) {
        if !matches!(status, 400 | 401 | 403 | 413 | 415) {
            return;
        }
        if let Some(passed_over) = self.refusals.due(status, peer, Instant::now()) {
            tracing::warn!(status, code, %peer, request_id = id, passed_over, "webhook refused");
        }
    }

    /// Notes a request whose head hyper could not read, and answered itself.
    pub(super) fn unreadable(&self, status: u16, peer: SocketAddr) {
        self.observer.request(UNMATCHED, "other", status, Duration::ZERO);
        tracing::debug!(status, %peer, "unreadable request");
    }
}

fn decode_params(params: Vec<(String, String)>) -> Result<Vec<(String, String)>, ApiError> {
    let decoded = params.into_iter().map(|(name, value)| Some((name, decode(&value)?)));
    decoded.collect::<Option<_>>().ok_or_else(|| ApiError::malformed("the path cannot be decoded"))
}

/// The sender's `X-Request-Id` if it is one of 1 to 128 visible ASCII characters, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get("x-request-id").and_then(|id| id.to_str().ok());
    let fits = |id: &&str| (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic());
    given.filter(fits).map_or_else(|| Ulid::generate().to_string(), str::to_owned)
}
