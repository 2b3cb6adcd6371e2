//! All that a story reaches over the network: a server for `http` steps, and enough of Prometheus and Alertmanager.
//!
//! `/<execution>/<step>` writes into the ledger and is answered 200 after 40 ms, `/quiet` at once. The query `never`
//! has the value 0, every other 1. Silences are kept as Alertmanager does: each POST makes one. May import: the
//! standard library, `serde_json`, the library's clock. Must never: forget a request.

use runbookd::app::SystemClock;
use runbookd::model::Clock as _;
use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

/// Answers until it is dropped.
pub(super) struct FarSide {
    address: SocketAddr,
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    stop: AtomicBool,
    ledger: OnceLock<PathBuf>,
    silences: Mutex<Vec<Silence>>,
    requests: AtomicU64,
}

/// A silence that was made.
#[derive(Debug, Clone)]
pub(super) struct Silence {
    comment: String,
    created_by: String,
    /// Whether it was ended.
    pub(super) is_expired: bool,
}

struct Request {
    method: String,
    path: String,
    key: String,
    body: Vec<u8>,
}

impl FarSide {
    /// Starts one whose ledger is told later.
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::<Inner>::default();
        let accepting = Arc::clone(&inner);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.stop.load(Ordering::SeqCst) {
                    return;
                }
                let inner = Arc::clone(&accepting);
                // A daemon that dies in the middle of its request is what the test is about.
                thread::spawn(move || stream.and_then(|stream| inner.answer(&stream)).ok());
            }
        });
        Self { address, inner }
    }

    /// `host:port`.
    pub(super) fn address(&self) -> String {
        self.address.to_string()
    }

    /// The sections of a config that lead here.
    pub(super) fn config(&self) -> String {
        let url = format!("\"http://{}\"", self.address);
        format!("[prometheus]\nurl = {url}\n[alertmanager]\nurls = [{url}]\n")
    }

    /// Writes into the ledger of this directory.
    pub(super) fn write_to(&self, dir: &Path) {
        self.inner.ledger.set(dir.join("ledger")).unwrap();
    }

    /// The silences that this step of this execution made.
    pub(super) fn silences_of(&self, execution: &str, step: &str) -> Vec<Silence> {
        let mark = format!(" [runbookd {execution}.{step}]");
        let all = self.inner.silences.lock().unwrap();
        all.iter().filter(|silence| silence.comment.ends_with(&mark)).cloned().collect()
    }
}

impl Drop for FarSide {
    fn drop(&mut self) {
        self.inner.stop.store(true, Ordering::SeqCst);
        // Wakes the accept; if it fails, the thread is gone already.
        drop(TcpStream::connect(self.address));
    }
}

impl Inner {
    fn answer(&self, mut stream: &TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let request = read(stream)?;
        let body = self.body(&request)?;
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes())
    }

    fn body(&self, request: &Request) -> io::Result<String> {
        let path = request.path.split('?').next().unwrap_or_default();
        Ok(match path {
            "/quiet" => "ok".to_owned(),
            "/api/v1/query" => query(&String::from_utf8_lossy(&request.body)).to_string(),
            "/api/v2/silences" if request.method == "POST" => self.make(&request.body).to_string(),
            "/api/v2/silences" => self.list().to_string(),
            _ => match (path.strip_prefix("/api/v2/silence/"), path.trim_matches('/').split_once('/')) {
                (Some(id), _) => self.expire(id),
                (None, Some((id, step))) => self.write(id, step, &request.key)?,
                (None, None) => String::new(),
            },
        })
    }

    fn write(&self, id: &str, step: &str, key: &str) -> io::Result<String> {
        let number = self.requests.fetch_add(1, Ordering::SeqCst);
        let line = |word: &str| {
            // Of an attempt's number, the far side is told nothing.
            let text = format!("{word} {id} {step} - {key} far{number}\n");
            let ledger = OpenOptions::new().create(true).append(true).open(self.ledger.wait());
            ledger?.write_all(text.as_bytes())
        };
        line("begin")?;
        thread::sleep(Duration::from_millis(40));
        line("end")?;
        Ok("ok".to_owned())
    }

    fn make(&self, body: &[u8]) -> Value {
        let wanted: Value = serde_json::from_slice(body).unwrap();
        let [comment, created_by] =
            ["comment", "createdBy"].map(|key| wanted[key].as_str().unwrap().to_owned());
        let mut silences = self.silences.lock().unwrap();
        silences.push(Silence { comment, created_by, is_expired: false });
        json!({ "silenceID": format!("{}", silences.len() - 1) })
    }

    fn list(&self) -> Value {
        let silences = self.silences.lock().unwrap();
        let open = silences.iter().enumerate().filter(|(_, silence)| !silence.is_expired);
        let shown = open.map(|(id, silence)| {
            let Silence { comment, created_by, .. } = silence;
            json!({ "id": id.to_string(), "comment": comment, "createdBy": created_by, "status": { "state": "active" } })
        });
        shown.collect()
    }

    fn expire(&self, id: &str) -> String {
        let id: usize = id.parse().unwrap();
        self.silences.lock().unwrap()[id].is_expired = true;
        String::new()
    }
}

fn query(form: &str) -> Value {
    let value = if form.contains("query=never") { "0" } else { "1" };
    let now = SystemClock.now().as_millisecond() as f64 / 1000.0;
    json!({
        "status": "success",
        "data": { "resultType": "vector", "result": [{ "metric": { "job": "x" }, "value": [now, value] }] },
    })
}

fn read(stream: &TcpStream) -> io::Result<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (mut key, mut length) = ("-".to_owned(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "idempotency-key" => value.trim().clone_into(&mut key),
            "content-length" => length = value.trim().parse().unwrap_or(0),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Request { method, path, key, body })
}
