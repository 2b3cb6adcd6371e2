//! Saying when to look at the runbook directory again.
//!
//! A thread of its own waits for the kernel's notices about the directory and its parent, lets a burst of them
//! pass, and wakes whoever waits. The wake-up carries no data: the directory is the truth, and a slow period
//! wakes as well, for whatever no notice came. So the directory may be missing, deleted or replaced (a
//! ConfigMap's `..data` link, a release's link) without anything being lost. May import: nothing of this crate.
//! Must never: read a file of the directory, which would make notices of its own.

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How long to wait for what.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Without a further notice, a burst is over; a file being written is then most likely whole.
    pub quiet: Duration,
    /// A burst that does not end is cut here.
    pub at_most: Duration,
    /// Look again after this time without any notice.
    pub period: Duration,
}

impl Default for Pace {
    /// 100 ms, 2 s, 30 s.
    fn default() -> Self {
        let [quiet, at_most, period] = [100, 2_000, 30_000].map(Duration::from_millis);
        Self { quiet, at_most, period }
    }
}

/// A watch over a directory; it ends when dropped.
#[derive(Debug)]
pub struct Watch {
    wake: Arc<Notify>,
    notices: SyncSender<()>,
    ended: Arc<AtomicBool>,
}

impl Watch {
    /// Starts to watch `dir`, which need not exist. It is watched when this returns, if it could be; what
    /// cannot be watched is looked at once a period.
    ///
    /// # Errors
    /// The system's, when no thread can be started.
    pub fn start(dir: &Path, pace: Pace) -> std::io::Result<Self> {
        // A notice carries nothing, so one waiting says all there is to say.
        let (notices, inbox) = sync_channel(1);
        let (wake, ended) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
        let mut eyes = Eyes { dir: dir.to_owned(), notices: notices.clone(), watcher: None, complaint: None };
        eyes.open();
        let thread = std::thread::Builder::new().name("runbook-watch".to_owned());
        let (waker, is_over) = (Arc::clone(&wake), Arc::clone(&ended));
        thread.spawn(move || {
            while !is_over.load(Ordering::Acquire) {
                if wait(&inbox, pace) && !is_over.load(Ordering::Acquire) {
                    // First watch, then wake: what changes in between is seen by one or the other.
                    eyes.open();
                    waker.notify_one();
                }
            }
        })?;
        Ok(Self { wake, notices, ended })
    }

    /// Waits until the directory should be looked at again. A wake-up that came while nobody waited is kept.
    ///
    /// # Cancel safety
    /// Safe: a dropped wait loses no wake-up.
    pub async fn changed(&self) {
        self.wake.notified().await;
    }

    /// What is woken, for callers that also wake it themselves.
    pub fn wake(&self) -> Arc<Notify> {
        Arc::clone(&self.wake)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        // Where the inbox is full, the notice in it makes the thread look at `ended` as well.
        self.notices.try_send(()).ok();
    }
}

/// Waits for a burst of notices to begin and to pass, or for a period; `true` when it is time to look.
fn wait(inbox: &Receiver<()>, pace: Pace) -> bool {
    match inbox.recv_timeout(pace.period) {
        Err(RecvTimeoutError::Timeout) => return true,
        // Cannot be while the watcher lives, which holds a sender; then there is nothing to wait for.
        Err(RecvTimeoutError::Disconnected) => return false,
        Ok(()) => {}
    }
    let begin = Instant::now();
    while begin.elapsed() < pace.at_most {
        let left = pace.at_most.saturating_sub(begin.elapsed());
        if inbox.recv_timeout(pace.quiet.min(left)).is_err() {
            break;
        }
    }
    true
}

/// The kernel's side of a watch.
struct Eyes {
    dir: PathBuf,
    notices: SyncSender<()>,
    watcher: Option<RecommendedWatcher>,
    /// What was last said to be wrong, to say it once.
    complaint: Option<String>,
}

impl Eyes {
    /// Watches what is at the path now: a directory that was replaced, even by one with the same inode number,
    /// is no longer the one that was watched.
    fn open(&mut self) {
        let complaint = self.try_open().err().map(|error| error.to_string());
        if let Some(why) = complaint.as_ref().filter(|why| self.complaint.as_ref() != Some(*why)) {
            let dir = self.dir.display();
            tracing::warn!(%dir, "the runbook directory cannot be watched, so it is only looked at now and then: {why}");
        }
        self.complaint = complaint;
    }

    fn try_open(&mut self) -> notify::Result<()> {
        if self.watcher.is_none() {
            let notices = self.notices.clone();
            let name = self.dir.file_name().map(ToOwned::to_owned);
            self.watcher = Some(notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
                let concerns = event.map_or(true, |event| {
                    is_change(&event.kind)
                        && (event.paths.is_empty()
                            || event.paths.iter().any(|path| {
                                let parent = path.parent().and_then(Path::file_name);
                                name.is_none()
                                    || path.file_name() == name.as_deref()
                                    || parent == name.as_deref()
                            }))
                });
                if concerns {
                    // A full inbox already says all there is to say; a closed one is the end.
                    notices.try_send(()).ok();
                }
            })?);
        }
        let Some(watcher) = &mut self.watcher else { return Ok(()) };
        // The parent tells of a directory that appears, disappears or is swapped for another.
        if let (Some(parent), Some(_)) = (self.dir.parent(), self.dir.file_name()) {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            drop(watcher.unwatch(parent));
            if let Err(error) = watcher.watch(parent, RecursiveMode::NonRecursive) {
                tracing::debug!(parent = %parent.display(), "cannot be watched: {error}");
            }
        }
        drop(watcher.unwatch(&self.dir));
        watcher.watch(&self.dir, RecursiveMode::NonRecursive)
    }
}

/// Whether it is about a change: reading makes notices too, and ours would wake us for ever.
fn is_change(kind: &EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if *access != AccessKind::Close(AccessMode::Write))
}
