//! The floors: what the machine needs for the bare work.

use super::machine;
use std::fs::File;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};
use tempfile::NamedTempFile;

/// A file that is appended to and synced, as durable logs are.
pub(crate) struct Log {
    file: File,
    // Removed with the log.
    _path: NamedTempFile,
}

impl Log {
    /// An empty one, on the file system of the daemons.
    pub(crate) fn new() -> Self {
        let path = NamedTempFile::new_in(machine::scratch()).unwrap();
        Self { file: path.reopen().unwrap(), _path: path }
    }

    /// Appends and syncs; gives how long it took.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Duration {
        let began = Instant::now();
        self.file.write_all(bytes).unwrap();
        self.file.sync_data().unwrap();
        began.elapsed()
    }
}

/// One thread that makes one write and one `fdatasync` of all that waits.
pub(crate) struct GroupLog {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

struct Shared {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

struct Waiting {
    bytes: Vec<u8>,
    who: Vec<(Thread, Arc<AtomicBool>)>,
    open: bool,
}

impl GroupLog {
    /// Starts the thread, over a log of its own.
    pub(crate) fn new() -> Self {
        let waiting = Waiting { bytes: Vec::new(), who: Vec::new(), open: true };
        let shared = Arc::new(Shared { waiting: Mutex::new(waiting), arrived: Condvar::new() });
        let theirs = Arc::clone(&shared);
        Self { shared, writer: Some(std::thread::spawn(move || theirs.write())) }
    }

    /// Returns when `bytes` are durable.
    pub(crate) fn commit(&self, bytes: &[u8]) {
        let durable = Arc::new(AtomicBool::new(false));
        let mut waiting = self.shared.waiting.lock().unwrap();
        waiting.bytes.extend_from_slice(bytes);
        waiting.who.push((std::thread::current(), Arc::clone(&durable)));
        drop(waiting);
        self.shared.arrived.notify_one();
        while !durable.load(Ordering::Acquire) {
            std::thread::park();
        }
    }
}

impl Shared {
    fn write(&self) {
        let mut log = Log::new();
        loop {
            let mut waiting = self.waiting.lock().unwrap();
            while waiting.who.is_empty() && waiting.open {
                waiting = self.arrived.wait(waiting).unwrap();
            }
            if waiting.who.is_empty() {
                return;
            }
            let (bytes, who) = (std::mem::take(&mut waiting.bytes), std::mem::take(&mut waiting.who));
            drop(waiting);
            log.append(&bytes);
            for (thread, durable) in who {
                durable.store(true, Ordering::Release);
                thread.unpark();
            }
        }
    }
}

impl Drop for GroupLog {
    fn drop(&mut self) {
        self.shared.waiting.lock().unwrap().open = false;
        self.shared.arrived.notify_one();
        if let Some(writer) = self.writer.take() {
            writer.join().unwrap();
        }
    }
}

/// `posix_spawn` of a program that does nothing, to its end.
pub(crate) fn spawn_and_wait() {
    let status = Command::new("/bin/true").stdin(Stdio::null()).stdout(Stdio::null()).status();
    assert!(status.unwrap().success());
}
