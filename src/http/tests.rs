//! A live edge on port 0 and raw sockets against it: what is promised is what is seen on the wire.

mod access;
mod h2;
mod lifecycle;
mod limits;

use super::*;
use crate::auth::{
    Auth, Expected, Failure, People, Permission, Roles, Signer, Verifier, VerifyingKey, WebhookAuth,
    WebhookCredential,
};
use crate::model::{ManualClock, Secret, Timestamp};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const SECRET: &str = "a secret of the tests, longer than 32 bytes";
const HOOK: &str = "/api/sre/alerts/webhook";
/// More than the sockets of one connection buffer.
const BIG: usize = 24 << 20;
const NOW: i64 = 1_790_000_000;

/// Notes what it is told.
#[derive(Default)]
struct Recorder {
    requests: Mutex<Vec<(&'static str, &'static str, u16)>>,
    failures: Mutex<Vec<Failure>>,
    panics: AtomicUsize,
    refused: AtomicUsize,
}

impl Observer for Recorder {
    fn request(&self, route: &'static str, method: &'static str, code: u16, _: Duration) {
        self.requests.lock().unwrap().push((route, method, code));
    }
    fn auth_failure(&self, reason: Failure) {
        self.failures.lock().unwrap().push(reason);
    }
    fn handler_panic(&self) {
        self.panics.fetch_add(1, Ordering::SeqCst);
    }
    fn connection_refused(&self) {
        self.refused.fetch_add(1, Ordering::SeqCst);
    }
}

/// What the handlers of the test table share with the tests.
#[derive(Default)]
struct Gate {
    entered: Notify,
    release: Notify,
    finished: Notify,
    /// How many handlers ran at all.
    ran: AtomicUsize,
}

struct Live {
    address: SocketAddr,
    recorder: Arc<Recorder>,
    gate: Arc<Gate>,
    edge: Arc<Edge>,
    shutdown: CancellationToken,
    task: JoinHandle<usize>,
}

fn route(methods: &'static [Method], path: &'static str, access: Access, handler: Handler) -> Route {
    let limit = if methods == [Method::Get] { BodyLimit::None } else { BodyLimit::Json(64 << 10) };
    Route { methods, path, trailing_slash: false, access, limit, handler }
}

/// Says that it was entered, and answers when it is released.
fn waits(gate: &Arc<Gate>) -> Handler {
    let gate = Arc::clone(gate);
    handler(move |_| {
        let gate = Arc::clone(&gate);
        async move {
            gate.entered.notify_one();
            gate.release.notified().await;
            gate.finished.notify_one();
            Ok(Reply::text("done"))
        }
    })
}

/// One event, then only signs of life.
fn streams() -> Handler {
    handler(|_| async {
        let first = Event { id: Some("1".into()), event: "created".into(), data: "{}".into() };
        let events = futures_util::StreamExt::chain(
            futures_util::stream::iter([first]),
            futures_util::stream::pending(),
        );
        Ok(Reply::events_every(events, Duration::from_millis(50)))
    })
}

fn routes(gate: &Arc<Gate>) -> Vec<Route> {
    use Permission::{Admin, Audit, Edit, Execute, Read, Secrets};
    let get: &[Method] = &[Method::Get];
    let post: &[Method] = &[Method::Post];
    let ok = {
        let gate = Arc::clone(gate);
        handler(move |request| {
            gate.ran.fetch_add(1, Ordering::SeqCst);
            async move {
                Ok(Reply::json(&json!({
                    "user": request.user(), "id": request.param("id"), "bytes": request.body.len(),
                    "client": request.client.to_string(), "https": request.https, "head": request.head,
                })))
            }
        })
    };
    let mut routes = vec![
        route(get, "/open", Access::Open, ok.clone()),
        route(post, "/open/{id}", Access::Open, ok.clone()),
        route(get, "/-/healthy", Access::Open, ok.clone()),
        route(get, "/needs/read/{id}", Access::Needs(Read), ok.clone()),
        route(post, "/own-pages", Access::OwnPages, ok.clone()),
        route(get, "/signed-in", Access::SignedIn, ok.clone()),
        route(post, "/needs/execute", Access::Needs(Execute), ok.clone()),
        route(&[Method::Put, Method::Delete], "/needs/edit/{id}", Access::Needs(Edit), ok.clone()),
        route(post, "/needs/secrets", Access::Needs(Secrets), ok.clone()),
        route(get, "/needs/audit", Access::Needs(Audit), ok.clone()),
        route(&[Method::Get, Method::Patch], "/needs/admin", Access::Needs(Admin), ok.clone()),
        route(
            post,
            "/json",
            Access::Open,
            handler(
                |request| async move { request.json::<serde_json::Value>().map(|value| Reply::json(&value)) },
            ),
        ),
        route(post, "/panic", Access::Open, handler(|_| async { panic!("on purpose, by a test") })),
        route(post, "/wait", Access::Open, waits(gate)),
        route(get, "/stream", Access::Open, streams()),
        route(
            get,
            "/big",
            Access::Open,
            handler(|_| async { Ok(Reply::bytes("text/plain", vec![b'x'; BIG])) }),
        ),
    ];
    routes.push(Route {
        methods: &[Method::Post, Method::Put],
        path: HOOK,
        trailing_slash: true,
        access: Access::Webhook,
        limit: BodyLimit::Webhook,
        handler: ok,
    });
    routes
}

fn auth() -> Auth {
    let key = VerifyingKey::secret(&Secret::new(SECRET)).unwrap();
    let webhook = [
        WebhookCredential::Bearer(Secret::new("hook-token")),
        WebhookCredential::Basic { user: "am".into(), password: Secret::new("hook-password") },
    ];
    Auth {
        people: People::Known {
            tokens: Some(Verifier::new(vec![key], Expected::default()).unwrap()),
            stored: None,
        },
        roles: Roles::default(),
        webhook: WebhookAuth::new(&webhook, false),
        origin: None,
    }
}

fn token(role: &str) -> String {
    let claims = json!({ "sub": "ada", "exp": NOW + 60, "roles": [role] });
    Signer::secret(&Secret::new(SECRET)).unwrap().sign(claims.as_object().unwrap()).unwrap()
}

async fn live() -> Live {
    live_with(Limits::default(), auth()).await
}

async fn live_with(limits: Limits, auth: Auth) -> Live {
    let gate = Arc::new(Gate::default());
    let recorder = Arc::new(Recorder::default());
    let clock = Arc::new(ManualClock::new(Timestamp::from_second(NOW).unwrap()));
    let table = Table::new(routes(&gate)).unwrap();
    let trusted = TrustedProxies::new(vec![crate::model::Network::parse("127.0.0.2").unwrap()]);
    let edge = Arc::new(Edge::new(table, auth, trusted, limits, clock, Arc::clone(&recorder) as _));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server::new(listener, Arc::clone(&edge));
    let address = server.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(server.serve(shutdown.clone()));
    Live { address, recorder, gate, edge, shutdown, task }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }
}

/// One end of a connection to the live edge.
struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    async fn new(live: &Live) -> Self {
        Self { stream: TcpStream::connect(live.address).await.unwrap(), buffer: Vec::new() }
    }

    async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads until `enough` says so; panics after 10 s or at the end of the stream.
    async fn until(&mut self, enough: impl Fn(&[u8]) -> Option<usize>) -> Vec<u8> {
        loop {
            if let Some(length) = enough(&self.buffer) {
                return self.buffer.drain(..length).collect();
            }
            let mut chunk = vec![0; 256 << 10];
            let read = timeout(Duration::from_secs(10), self.stream.read(&mut chunk)).await;
            let read = read.expect("no answer in time").expect("the connection was reset");
            assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&self.buffer));
            self.buffer.extend_from_slice(&chunk[..read]);
        }
    }

    async fn head(&mut self) -> Answer {
        let head = self
            .until(|buffer| buffer.windows(4).position(|part| part == b"\r\n\r\n").map(|at| at + 4))
            .await;
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.trim_end().lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .map(|line| line.split_once(':').unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Answer { status, headers, body: Vec::new() }
    }

    async fn answer(&mut self) -> Answer {
        let mut answer = self.head().await;
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        answer.body = self.until(|buffer| (buffer.len() >= length).then_some(length)).await;
        answer
    }

    /// Whether the server closes this connection within `within`, without another byte.
    async fn closed_within(&mut self, within: Duration) -> bool {
        let mut byte = [0; 1];
        match timeout(within, self.stream.read(&mut byte)).await {
            Ok(Ok(read)) => read == 0,
            Ok(Err(_)) => true,
            Err(_) => false,
        }
    }
}

fn request(method: &str, path: &str, authorization: &str, body: &str) -> String {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: test\r\n");
    if !authorization.is_empty() {
        head += &format!("Authorization: {authorization}\r\n");
    }
    if !body.is_empty() {
        head += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    }
    format!("{head}\r\n{body}")
}

async fn ask(live: &Live, method: &str, path: &str, authorization: &str, body: &str) -> Answer {
    let mut client = Client::new(live).await;
    client.send(&request(method, path, authorization, body)).await;
    if method == "HEAD" { client.head().await } else { client.answer().await }
}
