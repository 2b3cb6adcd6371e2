//! A small blocking HTTP client: one request, one connection, one answer.
//!
//! May import: the standard library, `serde_json`. Must never: follow a redirect, retry, or hide an answer.

use serde_json::Value;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// How long one read or write may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status code.
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// The body, with chunks joined.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The first header called `name`, written in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; shows it where it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no JSON ({error}) with {}: {}", self.status, self.text()))
    }
}

/// `GET path`.
pub(crate) fn get(address: &str, path: &str) -> io::Result<Answer> {
    request(address, "GET", path, &[], b"")
}

/// `POST path` with a JSON body.
pub(crate) fn post(address: &str, path: &str, body: &str) -> io::Result<Answer> {
    send(address, "POST", path, body)
}

/// A request with a JSON body.
pub(crate) fn send(address: &str, method: &str, path: &str, body: &str) -> io::Result<Answer> {
    request(address, method, path, &[("Content-Type", "application/json")], body.as_bytes())
}

/// One request; `headers` besides Host, Connection and Content-Length.
pub(crate) fn request(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Answer> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    raw(address, &[head.as_bytes(), body].concat())
}

/// A request with a JSON body to a server that keeps its connections whatever it is asked: as much of the answer is read
/// as it says that there is.
pub(crate) fn send_kept(address: &str, method: &str, path: &str, body: &str) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat())?;
    let (mut read, mut piece) = (Vec::new(), [0; 16 << 10]);
    loop {
        let count = stream.read(&mut piece)?;
        read.extend_from_slice(&piece[..count]);
        let whole = parse(&read).filter(|answer| {
            let length = answer.header("content-length").and_then(|length| length.parse().ok());
            length.is_some_and(|length: usize| answer.body.len() >= length)
        });
        match whole {
            Some(answer) => return Ok(answer),
            None if count == 0 => return Err(io::Error::other("the answer ends too early")),
            None => {}
        }
    }
}

/// Sends exactly these bytes and reads until the other side closes.
pub(crate) fn raw(address: &str, bytes: &[u8]) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(bytes)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    parse(&answer)
        .ok_or_else(|| io::Error::other(format!("no HTTP answer: {:?}", String::from_utf8_lossy(&answer))))
}

fn parse(answer: &[u8]) -> Option<Answer> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let body = &answer[end + 4..];
    let chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let body = if chunked { dechunk(body)? } else { body.to_vec() };
    Some(Answer { status, headers, body })
}

fn dechunk(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        let end = body.windows(2).position(|window| window == b"\r\n")?;
        let length = std::str::from_utf8(&body[..end]).ok()?.split(';').next()?;
        let length = usize::from_str_radix(length.trim(), 16).ok()?;
        if length == 0 {
            return Some(out);
        }
        out.extend_from_slice(body.get(end + 2..end + 2 + length)?);
        body = body.get(end + 2 + length + 2..)?;
    }
}
