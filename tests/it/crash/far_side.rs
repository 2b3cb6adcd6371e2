//! A server that does what `http` steps ask for, slowly, and writes it into the ledger.
//!
//! `/<execution>/<step>` is answered 200 after 40 ms. May import: the standard library. Must never: forget a request.

use std::fs::OpenOptions;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Answers until it is dropped.
pub(super) struct FarSide {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    ledger: Arc<std::sync::OnceLock<PathBuf>>,
}

impl FarSide {
    /// Starts one whose ledger is told later.
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, ledger) = (Arc::<AtomicBool>::default(), Arc::<std::sync::OnceLock<PathBuf>>::default());
        let (stopping, written) = (Arc::clone(&stop), Arc::clone(&ledger));
        thread::spawn(move || {
            let count = AtomicU64::new(0);
            for stream in listener.incoming() {
                if stopping.load(Ordering::SeqCst) {
                    return;
                }
                let (number, ledger) = (count.fetch_add(1, Ordering::SeqCst), Arc::clone(&written));
                // A daemon that dies in the middle of its request is what the test is about.
                thread::spawn(move || stream.and_then(|stream| answer(&stream, number, ledger.wait())).ok());
            }
        });
        Self { address, stop, ledger }
    }

    /// `host:port`.
    pub(super) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Writes into the ledger of this directory.
    pub(super) fn write_to(&self, dir: &Path) {
        self.ledger.set(dir.join("ledger")).unwrap();
    }
}

impl Drop for FarSide {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the accept; if it fails, the thread is gone already.
        drop(TcpStream::connect(self.address));
    }
}

fn answer(mut stream: &TcpStream, number: u64, ledger: &Path) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    let mut key = "-".to_owned();
    while let Some(line) = lines.next().transpose()?.filter(|line| !line.is_empty()) {
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("idempotency-key")
        {
            key = value.trim().to_owned();
        }
    }
    let path = request.split(' ').nth(1).unwrap_or_default();
    let Some((id, step)) = path.strip_prefix('/').and_then(|path| path.split_once('/')) else {
        return Ok(());
    };
    // A request without a key only looks, and such a step has one number.
    let attempt = key.rsplit('.').next().filter(|_| key != "-").unwrap_or("1");
    let line = |word: &str| {
        let text = format!("{word} {id} {step} {attempt} {key} far{number}\n");
        OpenOptions::new().create(true).append(true).open(ledger)?.write_all(text.as_bytes())
    };
    line("begin")?;
    thread::sleep(Duration::from_millis(40));
    line("end")?;
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
}
