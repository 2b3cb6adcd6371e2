//! The signals: what ends the daemon, what halts it, and what it may take its time for.
//!
//! May import: `engine`, `guard`. Must never: let the end or a halt wait for a reload.

use super::keeper;
use super::lifecycle::Refusal;
use crate::guard::Scope;
use crate::http::handler::Services;
use std::sync::Arc;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals, received from the very start: what comes while the store is opened must not end the process.
pub(super) struct Signals {
    /// Read the config again.
    pub(super) hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

/// SIGUSR1, apart from the others: it is heeded also while the daemon begins and while it ends.
pub(super) struct HaltSignal(Signal);

impl Signals {
    pub(super) fn receive() -> Result<(Self, HaltSignal), Refusal> {
        let receive =
            |kind| signal(kind).map_err(|error| Refusal(format!("signals cannot be received: {error}")));
        let signals = Self {
            hangup: receive(SignalKind::hangup())?,
            terminate: receive(SignalKind::terminate())?,
            interrupt: receive(SignalKind::interrupt())?,
        };
        Ok((signals, HaltSignal(receive(SignalKind::user_defined1())?)))
    }

    /// The signal that ends the daemon, and the one to read the config again, to be waited for side by side.
    pub(super) fn split(&mut self) -> (impl Future<Output = ()>, &mut Signal) {
        let Self { hangup, terminate, interrupt } = self;
        let end = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        (end, hangup)
    }
}

impl HaltSignal {
    /// Halts everything at each signal, until the process ends.
    pub(super) async fn heed(mut self, services: Arc<Services>) {
        while self.0.recv().await.is_some() {
            tracing::error!("halted by SIGUSR1; `runbookd unhalt` takes it back");
            let order = keeper::halt(Scope::Global, "signal", "SIGUSR1", services.clock.now());
            let engine = services.engine.clone();
            // Not waited for: a second signal need not wait for the store either.
            tokio::spawn(async move {
                match engine.post(order).await {
                    Ok(posted) => tracing::info!(?posted, "SIGUSR1 is in force"),
                    Err(error) => tracing::error!(%error, "SIGUSR1 could not halt"),
                }
            });
        }
    }
}
