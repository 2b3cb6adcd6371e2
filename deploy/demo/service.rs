//! The worker: a service with a metric of its requests, a caller, and two ways to break it.
//!
//! `POST /break` crashes it, and a new worker is well. `POST /spoil` makes it answer its caller with errors, by a fault
//! of its own: no circuit breaker in front of what it depends on can help. May import: the standard library. Must
//! never: serve when its supervisor is gone.

use crate::wire::{Request, answer, bind, receive};
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use std::{process, thread};

/// How long its caller rests between two requests.
const REST: Duration = Duration::from_millis(200);

const PATHS: &str = "GET /, /health, /health/integrations, /metrics; POST /break, /spoil; \
                     GET, PUT, DELETE /admin/circuit-breakers\n";

struct Service {
    started: Instant,
    is_spoilt: AtomicBool,
    is_load_off: AtomicBool,
    served: AtomicU64,
    failed: AtomicU64,
}

/// Serves until somebody posts to `/break`.
pub(crate) fn work(listen: &str) -> io::Result<()> {
    let listener = bind(listen)?;
    thread::spawn(|| {
        // Nothing is ever sent: this returns when the supervisor is gone.
        let _end = io::stdin().read(&mut [0]);
        process::exit(0);
    });
    let address = listener.local_addr()?;
    thread::spawn(move || {
        loop {
            thread::sleep(REST);
            if let Err(error) = call(address) {
                eprintln!("demo-target: the caller got no answer: {error}");
            }
        }
    });
    let service = Arc::new(Service {
        started: Instant::now(),
        is_spoilt: AtomicBool::new(false),
        is_load_off: AtomicBool::new(false),
        served: AtomicU64::new(0),
        failed: AtomicU64::new(0),
    });
    for stream in listener.incoming() {
        let (stream, service) = (stream?, Arc::clone(&service));
        // A client that is slow holds nobody else up.
        thread::spawn(move || {
            let said = receive(&stream).map(|request| service.handle(&request));
            if let Err(error) = said.and_then(|(status, body)| answer(&stream, status, &body)) {
                eprintln!("demo-target: {error}");
            }
        });
    }
    Ok(())
}

/// One customer.
fn call(address: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: demo\r\n\r\n")?;
    io::copy(&mut stream, &mut io::sink()).map(drop)
}

impl Service {
    fn handle(&self, request: &Request) -> (&'static str, String) {
        let ok = |body: &str| ("200 OK", body.to_owned());
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/") if self.is_spoilt.load(Relaxed) => {
                self.failed.fetch_add(1, Relaxed);
                ("500 Internal Server Error", "a fault of its own\n".to_owned())
            }
            ("GET", "/") => {
                self.served.fetch_add(1, Relaxed);
                ok("hello\n")
            }
            ("GET", "/health") => ok("{\"status\":\"ok\"}\n"),
            ("GET", "/health/integrations") => ok("{\"database\":\"ok\",\"mail\":\"ok\"}\n"),
            ("GET", "/metrics") => ("200 OK", self.metrics()),
            ("POST", "/break") => {
                eprintln!("demo-target: asked to break, so it does");
                process::abort();
            }
            ("POST", "/spoil") => {
                eprintln!("demo-target: every answer is an error from now on");
                self.is_spoilt.store(true, Relaxed);
                ok("")
            }
            ("GET", "/admin/circuit-breakers") => ok(self.breakers()),
            ("PUT", "/admin/circuit-breakers") => self.set_breakers(true),
            ("DELETE", "/admin/circuit-breakers") => self.set_breakers(false),
            _ => ("404 Not Found", PATHS.to_owned()),
        }
    }

    fn breakers(&self) -> &'static str {
        if self.is_load_off.load(Relaxed) { "open\n" } else { "closed\n" }
    }

    fn set_breakers(&self, open: bool) -> (&'static str, String) {
        self.is_load_off.store(open, Relaxed);
        eprint!("demo-target: circuit breakers {}", self.breakers());
        ("200 OK", self.breakers().to_owned())
    }

    fn metrics(&self) -> String {
        let (served, failed) = (self.served.load(Relaxed), self.failed.load(Relaxed));
        format!(
            "# HELP http_requests_total Requests of customers.\n# TYPE http_requests_total counter\n\
             http_requests_total{{status=\"200\"}} {served}\nhttp_requests_total{{status=\"500\"}} {failed}\n\
             # HELP demo_uptime_seconds Time since the start.\n# TYPE demo_uptime_seconds gauge\n\
             demo_uptime_seconds {:.3}\n",
            self.started.elapsed().as_secs_f64()
        )
    }
}
