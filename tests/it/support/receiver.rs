//! Where messages go: an HTTP endpoint that answers as the test wants and remembers everything.
//!
//! May import: the standard library, its neighbours here. Must never: forget a request.

use super::process::eventually;
use serde_json::Value;
use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How one request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    /// With this status.
    Status(u16),
    /// With 429, and the wish to be left alone for so many seconds.
    Later(u32),
    /// Not at all, with the connection left open.
    Hang,
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    /// Its path.
    pub(crate) path: String,
    /// Its header fields, names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// Its body.
    pub(crate) body: Vec<u8>,
}

impl Told {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The first header called `name`.
    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value.as_str())
    }
}

#[derive(Default)]
struct Inner {
    replies: Mutex<VecDeque<Reply>>,
    then: Mutex<Option<Reply>>,
    told: Mutex<Vec<Told>>,
    held: Mutex<Vec<TcpStream>>,
    stop: AtomicBool,
}

/// The endpoint; it is gone when this is.
pub(crate) struct Receiver {
    address: SocketAddr,
    inner: Arc<Inner>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    /// One that answers these in turn, and 200 ever after.
    pub(crate) fn start(replies: &[Reply]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner::default());
        inner.replies.lock().unwrap().extend(replies);
        let seen = Arc::clone(&inner);
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if seen.stop.load(Ordering::SeqCst) {
                    return;
                }
                // A sender that goes away is its own business.
                drop(stream.and_then(|stream| answer(stream, &seen)));
            }
        });
        Self { address, inner, thread: Some(thread) }
    }

    /// `http://host:port` and `path`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// From now on every request that has no reply of its own is answered so.
    pub(crate) fn then(&self, reply: Reply) {
        *self.inner.then.lock().unwrap() = Some(reply);
    }

    /// Everything it was told so far.
    pub(crate) fn told(&self) -> Vec<Told> {
        self.inner.told.lock().unwrap().clone()
    }

    /// Waits until it was told so many things.
    pub(crate) fn wait_for(&self, count: usize) -> Vec<Told> {
        eventually(&format!("{count} messages"), Duration::from_secs(60), || {
            let told = self.told();
            (told.len() >= count).then_some(told)
        })
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.inner.stop.store(true, Ordering::SeqCst);
        // Wakes the accept; if it fails, the thread is gone already.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn answer(stream: TcpStream, inner: &Inner) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    inner.told.lock().unwrap().push(Told { path, headers, body });
    let reply = inner.replies.lock().unwrap().pop_front();
    let then = *inner.then.lock().unwrap();
    match reply.or(then).unwrap_or(Reply::Status(200)) {
        Reply::Hang => {
            inner.held.lock().unwrap().push(stream);
            Ok(())
        }
        Reply::Later(seconds) => write!(
            &stream,
            "HTTP/1.1 429 Said\r\nRetry-After: {seconds}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
        ),
        Reply::Status(status) => {
            write!(&stream, "HTTP/1.1 {status} Said\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        }
    }
}
