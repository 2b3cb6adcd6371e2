//! Password hashes off the tasks that serve others: a few at a time, and a short queue.
//!
//! May import: `auth`, `model`. Must never: let strangers who guess passwords take all memory or all threads.

use crate::auth::PasswordHash;
use crate::model::Secret;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tokio::sync::Semaphore;

/// Hashes at the same time; each takes tens of megabytes.
const AT_ONCE: usize = 2;
/// Hashes that may wait.
const WAITING: usize = 32;

/// Too many sign in at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many people sign in at once; try it again")]
pub struct Busy;

/// Does the work.
#[derive(Debug)]
pub struct Hasher {
    slots: Arc<Semaphore>,
    inside: AtomicUsize,
    comparisons: AtomicU64,
}

impl Default for Hasher {
    fn default() -> Self {
        let slots = Arc::new(Semaphore::new(AT_ONCE));
        Self { slots, inside: AtomicUsize::new(0), comparisons: AtomicU64::new(0) }
    }
}

impl Hasher {
    /// How many passwords were compared.
    pub fn comparisons(&self) -> u64 {
        self.comparisons.load(Ordering::SeqCst)
    }

    /// Whether `hash` is of `password`.
    pub(super) async fn compare(&self, hash: PasswordHash, password: Secret) -> Result<bool, Busy> {
        let fits = self.run(move || hash.is_of(&password)).await?;
        self.comparisons.fetch_add(1, Ordering::SeqCst);
        Ok(fits)
    }

    /// Runs `work` when it is its turn.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let inside = Inside::enter(&self.inside)?;
        let slot = Arc::clone(&self.slots).acquire_owned().await.map_err(|_| Busy)?;
        let done = tokio::task::spawn_blocking(move || {
            let _held = slot;
            work()
        });
        let done = done.await.map_err(|_| Busy);
        drop(inside);
        done
    }
}

/// Counts one that waits or works, also when its caller goes away.
struct Inside<'h>(&'h AtomicUsize);

impl<'h> Inside<'h> {
    fn enter(inside: &'h AtomicUsize) -> Result<Self, Busy> {
        let before = inside.fetch_add(1, Ordering::SeqCst);
        let entered = Self(inside);
        if before < AT_ONCE + WAITING { Ok(entered) } else { Err(Busy) }
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_few_work_some_wait_and_the_rest_is_told_so() {
        let hasher = Arc::new(Hasher::default());
        let open = Arc::new(AtomicBool::new(false));
        let (at_once, most) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let tasks: Vec<_> = (0..AT_ONCE + WAITING)
            .map(|_| {
                let (hasher, open) = (Arc::clone(&hasher), Arc::clone(&open));
                let (at_once, most) = (Arc::clone(&at_once), Arc::clone(&most));
                tokio::spawn(async move {
                    let work = move || {
                        most.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        while !open.load(Ordering::SeqCst) {
                            std::thread::yield_now();
                        }
                        at_once.fetch_sub(1, Ordering::SeqCst);
                    };
                    hasher.run(work).await
                })
            })
            .collect();
        while hasher.inside.load(Ordering::SeqCst) < AT_ONCE + WAITING {
            tokio::task::yield_now().await;
        }
        assert_eq!(hasher.run(|| ()).await, Err(Busy));
        open.store(true, Ordering::SeqCst);
        for task in tasks {
            assert_eq!(task.await.unwrap(), Ok(()));
        }
        assert!(most.load(Ordering::SeqCst) <= AT_ONCE, "{most:?}");
        assert_eq!(hasher.run(|| 7).await, Ok(7), "room again");
    }
}
