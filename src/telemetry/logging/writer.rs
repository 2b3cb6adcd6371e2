//! The thread that owns stdout: callers hand over a line and go on.
//!
//! A collector that reads slowly, or not at all, costs log lines, never the daemon's work: the queue has a
//! bound in bytes, what does not fit is dropped and counted, and a line says so once stdout takes more.
//! May import: nothing of this crate. Must never: log, or block a caller on I/O.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// The most bytes that wait, and as many again that are being written.
pub(super) const MAX_WAITING: usize = 4 * 1024 * 1024;
/// A buffer that grew beyond it in a burst is given back.
const KEEP: usize = 64 * 1024;
/// Between two tries of a stdout that somebody made non-blocking.
const AGAIN: Duration = Duration::from_millis(5);

/// The handle; dropping it ends the thread after the last line.
#[derive(Debug)]
pub(super) struct Writer(Arc<Queue>);

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    /// There is something to write, or the end.
    wake: Condvar,
    /// Everything is written.
    idle: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    writing: bool,
    ended: bool,
    /// Lines lost since the start, and those of them that no line has told of.
    lost: u64,
    untold: u64,
}

impl Writer {
    /// Starts the thread; `notice` makes the line that tells of a number of lost ones.
    pub(super) fn start(
        out: impl io::Write + Send + 'static,
        notice: impl Fn(u64) -> String + Send + 'static,
    ) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let own = queue.clone();
        thread::Builder::new().name("log".to_owned()).spawn(move || run(&own, out, notice))?;
        Ok(Self(queue))
    }

    /// Queues a line, its end included, or drops it when too much waits already.
    pub(super) fn send(&self, line: &str) {
        let mut state = self.0.lock();
        if state.waiting.len() + line.len() > MAX_WAITING {
            state.lose(1);
            return;
        }
        let first = state.waiting.is_empty();
        state.waiting.extend_from_slice(line.as_bytes());
        drop(state);
        if first {
            self.0.wake.notify_one();
        }
    }

    /// Waits at most `limit` until nothing is left to write; whether nothing is.
    pub(super) fn flush(&self, limit: Duration) -> bool {
        let busy = |state: &mut State| state.writing || !state.waiting.is_empty();
        let waited = self.0.idle.wait_timeout_while(self.0.lock(), limit, busy);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    pub(super) fn lost(&self) -> u64 {
        self.0.lock().lost
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.wake.notify_one();
    }
}

impl Queue {
    /// Nothing between lock and unlock can panic half-way, so a poisoned state is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn lose(&mut self, lines: u64) {
        self.lost = self.lost.saturating_add(lines);
        self.untold = self.untold.saturating_add(lines);
    }
}

fn run(queue: &Queue, mut out: impl io::Write, notice: impl Fn(u64) -> String) {
    let mut batch = Vec::new();
    let mut torn = false;
    loop {
        let mut state = queue.lock();
        while state.waiting.is_empty() && !state.ended {
            state = queue.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.waiting.is_empty() {
            return;
        }
        std::mem::swap(&mut state.waiting, &mut batch);
        state.writing = true;
        let untold = std::mem::take(&mut state.untold);
        drop(state);

        let lines = count_lines(&batch);
        if torn {
            // The last write broke off within a line; what follows must not continue it.
            batch.insert(0, b'\n');
        }
        if untold > 0 {
            batch.extend_from_slice(notice(untold).as_bytes());
        }
        let written = write(&mut out, &batch);
        torn = if written == 0 { torn } else { batch[written - 1] != b'\n' };
        let unwritten = count_lines(&batch[written..]);

        let mut state = queue.lock();
        if unwritten > 0 {
            // The notice comes last, so it is among them if there was one: what it told of is untold again.
            state.lose((unwritten - u64::from(untold > 0)).min(lines));
            state.untold = state.untold.saturating_add(untold);
        }
        state.writing = false;
        if state.waiting.is_empty() {
            queue.idle.notify_all();
        }
        drop(state);
        batch.clear();
        batch.shrink_to(KEEP);
    }
}

fn count_lines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// Writes as much as goes; how much went.
fn write(out: &mut impl io::Write, bytes: &[u8]) -> usize {
    let mut written = 0;
    while written < bytes.len() {
        match out.write(&bytes[written..]) {
            Ok(0) => break,
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(AGAIN),
            // The reader is gone or the disk is full; the next line tries again.
            Err(_) => break,
        }
    }
    written
}
