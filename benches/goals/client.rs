//! A load generator: keep-alive connections over plain sockets, one request at a time on each.

use serde_json::Value;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    address: String,
    received: Vec<u8>,
}

/// What came back.
pub(crate) struct Answer {
    /// The status code.
    pub(crate) status: u16,
    /// The body.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl Client {
    /// A connection to `address`.
    pub(crate) fn connect(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, address: address.to_owned(), received: Vec::new() })
    }

    /// `GET path`.
    pub(crate) fn get(&mut self, path: &str) -> io::Result<Answer> {
        let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
        self.exchange(head.as_bytes())
    }

    /// `POST path`, JSON.
    pub(crate) fn post(&mut self, path: &str, body: &str) -> io::Result<Answer> {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        self.exchange(request.as_bytes())
    }

    fn exchange(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.stream.write_all(request)?;
        let end = loop {
            if let Some(end) = self.received.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            self.receive()?;
        };
        let head = String::from_utf8_lossy(&self.received[..end]).to_ascii_lowercase();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or(io::ErrorKind::InvalidData)?;
        let length = head.split("content-length:").nth(1).and_then(|rest| rest.lines().next());
        let length: usize = length.map_or(Ok(0), |length| length.trim().parse()).unwrap();
        while self.received.len() < end + length {
            self.receive()?;
        }
        let body = self.received[end..end + length].to_vec();
        self.received.drain(..end + length);
        Ok(Answer { status, body })
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut portion = [0; 64 << 10];
        match self.stream.read(&mut portion)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                self.received.extend_from_slice(&portion[..read]);
                Ok(())
            }
        }
    }
}

/// Runs `job` in `threads` threads for `seconds`, each with a number of its own; gives how often it ran in a second.
pub(crate) fn per_second<J: FnMut() + Send>(
    threads: usize,
    seconds: f64,
    mut make: impl FnMut(usize) -> J,
) -> f64 {
    let jobs: Vec<J> = (0..threads).map(&mut make).collect();
    let began = Instant::now();
    let until = began + Duration::from_secs_f64(seconds);
    let done: usize = std::thread::scope(|scope| {
        let run = |mut job: J| {
            scope.spawn(move || {
                let mut done = 0;
                while Instant::now() < until {
                    job();
                    done += 1;
                }
                done
            })
        };
        let threads: Vec<_> = jobs.into_iter().map(run).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    done as f64 / began.elapsed().as_secs_f64()
}
