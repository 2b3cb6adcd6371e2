//! A service that does what the test wants: an HTTP endpoint with a function behind it, and a Prometheus of one number.
//!
//! May import: the standard library, `runbookd` (the time), its neighbours here. Must never: forget a request.

use runbookd::app::SystemClock;
use runbookd::model::Clock as _;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// One request: method, path with its query, body.
pub(crate) type Asked = (String, String, String);

/// The service; it is gone when this is.
pub(crate) struct Service {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Service {
    /// One that answers by `answer`: from method, path and body to status and body.
    pub(crate) fn start(answer: impl Fn(&str, &str, &str) -> (u16, String) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, stop) = (Arc::<Mutex<Vec<Asked>>>::default(), Arc::new(AtomicBool::new(false)));
        let (seen, ends) = (Arc::clone(&asked), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if ends.load(Ordering::SeqCst) {
                    return;
                }
                // A client that goes away is its own business.
                drop(stream.and_then(|stream| serve(&stream, &seen, &answer)));
            }
        });
        Self { address, asked, stop, thread: Some(thread) }
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// What it was asked with this method, in order.
    pub(crate) fn asked(&self, method: &str) -> Vec<(String, String)> {
        let asked = self.asked.lock().unwrap();
        let of_method = asked.iter().filter(|(known, ..)| known == method);
        of_method.map(|(_, path, body)| (path.clone(), body.clone())).collect()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the accept; if it fails, the thread is gone already.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// The answer of a Prometheus to any query: one sample of now.
pub(crate) fn sample(value: f64) -> (u16, String) {
    let now = SystemClock.now().as_second();
    let result = format!(r#"[{{"metric":{{}},"value":[{now},"{value}"]}}]"#);
    (200, format!(r#"{{"status":"success","data":{{"resultType":"vector","result":{result}}}}}"#))
}

fn serve(
    stream: &TcpStream,
    asked: &Mutex<Vec<Asked>>,
    answer: &impl Fn(&str, &str, &str) -> (u16, String),
) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body = String::from_utf8_lossy(&body).into_owned();
    let (status, text) = answer(method, path, &body);
    asked.lock().unwrap().push((method.to_owned(), path.to_owned(), body));
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {status} Said\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    )
}
