//! Keys that an issuer serves: rotated, out of reach, hanging, too much; and forged names that must not make it fetch.

use super::{HOOK, LIMIT, With, reads};
use crate::support::daemon::Daemon;
use crate::support::process::eventually;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::crypto::sign;
use jsonwebtoken::{Algorithm, EncodingKey};
use runbookd::app::SystemClock;
use runbookd::auth::install_crypto;
use runbookd::model::Clock as _;
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const EC: &str = include_str!("../../fixtures/keys/test-ec-private.pem");
const EC_PUBLIC: &str = include_str!("../../fixtures/keys/test-ec-public.pem");
const ED: &str = include_str!("../../fixtures/keys/test-ed25519-private.pem");
const ED_PUBLIC: &str = include_str!("../../fixtures/keys/test-ed25519-public.pem");

/// What the issuer does with a request.
#[derive(Clone)]
enum Mood {
    Serve(Vec<Value>),
    Fail,
    Hang,
    TooMuch,
}

struct State {
    mood: Mutex<Mood>,
    fetches: AtomicUsize,
    stop: AtomicBool,
    held: Mutex<Vec<TcpStream>>,
}

/// A small issuer.
struct Issuer {
    address: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

impl Issuer {
    fn start(mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            mood: Mutex::new(mood),
            fetches: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            held: Mutex::default(),
        });
        let seen = Arc::clone(&state);
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if seen.stop.load(Ordering::SeqCst) {
                    return;
                }
                answer(stream.unwrap(), &seen);
            }
        });
        Self { address, state, thread: Some(thread) }
    }

    fn be(&self, mood: Mood) {
        *self.state.mood.lock().unwrap() = mood;
        self.state.held.lock().unwrap().clear();
    }

    fn fetches(&self) -> usize {
        self.state.fetches.load(Ordering::SeqCst)
    }

    fn config(&self, more: &str) -> String {
        format!(
            "[webhook]\nbearer = {{ env = \"HOOK\" }}\n[auth]\njwt = {{ jwks_url = \"http://{}/keys\", {more}\
             issuer = \"test\", audience = \"runbookd\" }}\n",
            self.address
        )
    }

    fn daemon(&self, more: &str) -> Daemon {
        Daemon::start(&self.config(more), &[], &[("HOOK", HOOK)])
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn answer(mut stream: TcpStream, state: &State) {
    let mut head = [0; 4096];
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    if stream.read(&mut head).unwrap_or(0) == 0 {
        return;
    }
    state.fetches.fetch_add(1, Ordering::SeqCst);
    let mood = state.mood.lock().unwrap().clone();
    let (status, body) = match mood {
        Mood::Serve(keys) => ("200 OK", json!({ "keys": keys }).to_string()),
        Mood::Fail => ("500 Internal Server Error", json!({ "keys": [ec("new")] }).to_string()),
        Mood::Hang => return state.held.lock().unwrap().push(stream),
        Mood::TooMuch => ("200 OK", format!("{}{}", " ".repeat(10 << 20), json!({ "keys": [ec("new")] }))),
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    // A reader that has enough goes away.
    drop(stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())));
}

/// The bytes of a public key in PEM that follow the head of its DER.
fn point(pem: &str, length: usize) -> Vec<u8> {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = STANDARD.decode(body).unwrap();
    der[der.len() - length..].to_vec()
}

fn ec(kid: &str) -> Value {
    let point = point(EC_PUBLIC, 64);
    let (x, y) = (URL_SAFE_NO_PAD.encode(&point[..32]), URL_SAFE_NO_PAD.encode(&point[32..]));
    json!({ "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": kid, "x": x, "y": y })
}

fn ed(kid: &str) -> Value {
    json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": URL_SAFE_NO_PAD.encode(point(ED_PUBLIC, 32)) })
}

fn signed(header: &Value, algorithm: Algorithm, key: &EncodingKey) -> With {
    install_crypto();
    let now = SystemClock.now().as_second();
    let claims =
        json!({ "sub": "ada", "iss": "test", "aud": "runbookd", "exp": now + 600, "roles": ["viewer"] });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(&claims));
    let signature = sign(message.as_bytes(), key, algorithm).unwrap();
    With::Bearer(format!("{message}.{signature}"))
}

/// A token by the EC key that names `kid`.
fn by_ec(kid: &str) -> With {
    let key = EncodingKey::from_ec_pem(EC.as_bytes()).unwrap();
    signed(&json!({ "alg": "ES256", "kid": kid }), Algorithm::ES256, &key)
}

/// A token by the Ed25519 key that names `kid`.
fn by_ed(kid: &str) -> With {
    let key = EncodingKey::from_ed_pem(ED.as_bytes()).unwrap();
    signed(&json!({ "alg": "EdDSA", "kid": kid }), Algorithm::EdDSA, &key)
}

fn becomes(daemon: &Daemon, with: &With, status: u16) {
    eventually(&format!("the answer {status}"), LIMIT, || (reads(daemon, with) == status).then_some(()));
}

#[test]
fn t23_a_new_key_counts_at_once_and_a_removed_one_no_longer() {
    let issuer = Issuer::start(Mood::Serve(vec![ec("one")]));
    let daemon = issuer.daemon("");
    becomes(&daemon, &by_ec("one"), 200);
    assert_eq!(reads(&daemon, &by_ed("one")), 401, "another key under a known name");
    issuer.be(Mood::Serve(vec![ed("two")]));
    let fetches = issuer.fetches();
    // The first token by the new key makes it fetch, and waits for that.
    assert_eq!(reads(&daemon, &by_ed("two")), 200);
    assert_eq!(reads(&daemon, &by_ec("one")), 401, "the old key is gone");
    assert_eq!(issuer.fetches(), fetches + 1);
}

#[test]
fn t23_a_flood_of_unknown_names_makes_it_fetch_once() {
    let issuer = Issuer::start(Mood::Serve(vec![ec("one")]));
    let daemon = issuer.daemon("");
    becomes(&daemon, &by_ec("one"), 200);
    let fetches = issuer.fetches();
    thread::scope(|scope| {
        for worker in 0..8 {
            let daemon = &daemon;
            scope.spawn(move || {
                for n in 0..25 {
                    assert_eq!(reads(daemon, &by_ec(&format!("forged-{worker}-{n}"))), 401);
                }
            });
        }
    });
    assert_eq!(issuer.fetches(), fetches + 1);
    assert_eq!(reads(&daemon, &by_ec("one")), 200);
}

#[test]
fn t23_symmetric_and_foreign_keys_of_the_document_are_never_used() {
    let secret = "a secret that an attacker put into the set of keys";
    let oct = json!({ "kty": "oct", "kid": "oct", "alg": "HS256", "k": URL_SAFE_NO_PAD.encode(secret) });
    let mut encrypts = ed("enc");
    encrypts["use"] = "enc".into();
    let mut lies = ed("lies");
    lies["alg"] = "ES256".into();
    let issuer = Issuer::start(Mood::Serve(vec![oct, encrypts, lies, ec("one")]));
    let daemon = issuer.daemon("");
    becomes(&daemon, &by_ec("one"), 200);
    let hmac = signed(
        &json!({ "alg": "HS256", "kid": "oct" }),
        Algorithm::HS256,
        &EncodingKey::from_secret(secret.as_bytes()),
    );
    for forged in [hmac, by_ed("enc"), by_ed("lies"), by_ed("one")] {
        assert_eq!(reads(&daemon, &forged), 401);
    }
}

#[test]
fn t23_an_outage_keeps_the_last_keys_and_brings_no_others() {
    let issuer = Issuer::start(Mood::Serve(vec![ec("one")]));
    let daemon = issuer.daemon("jwks_refresh = \"1s\", jwks_max_age = \"1h\", ");
    becomes(&daemon, &by_ec("one"), 200);
    for mood in [Mood::Fail, Mood::TooMuch, Mood::Serve(Vec::new()), Mood::Hang] {
        issuer.be(mood);
        let fetches = issuer.fetches();
        eventually("another fetch", LIMIT, || (issuer.fetches() > fetches).then_some(()));
        assert_eq!(reads(&daemon, &by_ec("one")), 200);
    }
    // Neither an answer of 500 nor the end of ten megabytes brought the key called new.
    issuer.be(Mood::Serve(vec![ec("one"), ed("two")]));
    becomes(&daemon, &by_ed("two"), 200);
    daemon.logged("the issuer's keys cannot be had", 1);
}

#[test]
fn t23_keys_that_are_too_old_are_not_believed_and_webhooks_go_on() {
    let issuer = Issuer::start(Mood::Serve(vec![ec("one")]));
    let daemon = issuer.daemon("jwks_refresh = \"1s\", jwks_max_age = \"2s\", ");
    becomes(&daemon, &by_ec("one"), 200);
    issuer.be(Mood::Fail);
    becomes(&daemon, &by_ec("one"), 503);
    let unavailable = "runbookd_auth_failures_total{reason=\"unavailable\"}";
    assert!(daemon.metric(unavailable) >= 1.0);
    let hook = With::Bearer(HOOK.to_owned());
    let body = json!({ "alerts": [] });
    assert_eq!(super::ask(&daemon, "POST", "/api/sre/alerts/webhook", &hook, &body).status, 200);
    issuer.be(Mood::Serve(vec![ec("one")]));
    becomes(&daemon, &by_ec("one"), 200);
}

#[test]
fn t23_an_issuer_that_hangs_at_the_start_holds_nothing_up() {
    let issuer = Issuer::start(Mood::Hang);
    let daemon = issuer.daemon("");
    assert_eq!(reads(&daemon, &by_ec("one")), 503);
    issuer.be(Mood::Serve(vec![ec("one")]));
    becomes(&daemon, &by_ec("one"), 200);
}
