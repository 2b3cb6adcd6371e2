//! A server that answers one connection after the other as told, remembers the requests, and then is gone.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;

pub(super) struct Stub {
    pub(super) url: String,
    thread: JoinHandle<Vec<String>>,
}

impl Stub {
    /// Answers with `answers` in turn, each on a connection of its own.
    pub(super) fn new(answers: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let mut requests = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                requests.push(request(&mut stream));
                // A client that reads no further is a case of its own.
                stream.write_all(answer.as_bytes()).ok();
            }
            requests
        });
        Self { url, thread }
    }

    /// Every request, once all answers were given.
    pub(super) fn requests(self) -> Vec<String> {
        self.thread.join().unwrap()
    }
}

fn request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.to_lowercase().lines().find_map(|line| {
                line.strip_prefix("content-length: ").and_then(|length| length.parse::<usize>().ok())
            });
            if body.len() >= length.unwrap_or(0) {
                return text;
            }
        }
        match stream.read(&mut buffer).unwrap() {
            0 => return text,
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    }
}

/// An answer with a status line such as `200 OK`, further header lines, and a body.
pub(super) fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

/// A good answer in JSON.
pub(super) fn json(body: &str) -> String {
    answer("200 OK", "content-type: application/json\r\n", body)
}

/// A stream of events that ends with its connection.
pub(super) fn events(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{body}")
}
