//! How the engine ends a running attempt.
//!
//! A [`Killer`] stays with whoever may end the attempt, its [`KillSignal`] goes into `Runner::run`.
//! May import: nothing of this crate. Must never: signal a process itself.

use std::time::Duration;
use tokio::sync::watch;

/// Ends an attempt. Dropping it ends nothing.
#[derive(Debug, Clone)]
pub struct Killer(watch::Sender<Option<Duration>>);

/// The receiving end of a [`Killer`].
#[derive(Debug, Clone)]
pub struct KillSignal {
    from: Option<watch::Receiver<Option<Duration>>>,
    seen: Option<Duration>,
}

/// A killer and its signal.
pub fn kill_pair() -> (Killer, KillSignal) {
    let (sender, receiver) = watch::channel(None);
    (Killer(sender), KillSignal { from: Some(receiver), seen: None })
}

impl Killer {
    /// Asks the attempt to end: SIGTERM, and SIGKILL after `grace`. Asked again with a shorter grace, the
    /// shorter one holds; a zero grace kills at once.
    pub fn kill(&self, grace: Duration) {
        self.0.send_modify(|asked| *asked = Some(asked.map_or(grace, |earlier| earlier.min(grace))));
    }
}

impl KillSignal {
    /// A signal that never comes.
    pub fn never() -> Self {
        Self { from: None, seen: None }
    }

    /// Whether a kill has been asked for.
    pub fn is_asked(&self) -> bool {
        self.from.as_ref().is_some_and(|from| from.borrow().is_some())
    }

    /// Waits until a kill with a new grace is asked for. Cancel safe; without a killer it waits for ever.
    pub(crate) async fn asked(&mut self) -> Duration {
        let Some(from) = &mut self.from else { return std::future::pending().await };
        loop {
            let now = *from.borrow_and_update();
            if now != self.seen {
                self.seen = now;
                if let Some(grace) = now {
                    return grace;
                }
            }
            if from.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_kill_is_heard_later_too_and_only_a_shorter_grace_is_heard_again() {
        let (killer, mut signal) = kill_pair();
        assert!(!signal.is_asked() && !KillSignal::never().is_asked());
        killer.kill(Duration::from_secs(3));
        assert!(signal.is_asked());
        assert_eq!(signal.asked().await, Duration::from_secs(3));
        killer.kill(Duration::from_secs(9));
        let again = tokio::time::timeout(Duration::from_millis(20), signal.asked()).await;
        assert!(again.is_err(), "a longer grace must not be heard");
        killer.kill(Duration::ZERO);
        assert_eq!(signal.asked().await, Duration::ZERO);
        drop(killer);
        assert!(tokio::time::timeout(Duration::from_millis(20), signal.asked()).await.is_err());
    }
}
