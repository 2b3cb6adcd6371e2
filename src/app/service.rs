//! What the service manager is told: systemd's notification protocol, spoken to its socket directly.
//!
//! Without `NOTIFY_SOCKET` nothing is said and nothing is missed. The watchdog is fed only while the loops that must
//! not stand still go round: the engine's, and the store's writer. May import: `engine`, `store`. Must never: wait for
//! the service manager.

use super::Environment;
use crate::engine::Engine;
use crate::store::Store;
use rustix::time::{ClockId, clock_gettime};
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long a loop may take to answer where the watchdog leaves more time.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// The service manager, if there is one.
#[derive(Debug)]
pub(super) struct Manager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
    /// Whether the last thing said was not heard; that is logged once.
    unheard: AtomicBool,
}

impl Manager {
    /// The one that the environment names.
    pub(super) fn of(env: &Environment) -> Self {
        let word = |name: &str| env.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let socket = word("NOTIFY_SOCKET").and_then(|name| {
            let opened = open(name);
            opened
                .inspect_err(|error| tracing::error!(%error, "the service manager cannot be told anything"))
                .ok()
        });
        // A process that inherited the variables is not the one that is watched.
        let is_ours = word("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let micros = word("WATCHDOG_USEC").filter(|_| is_ours).and_then(|text| text.parse().ok());
        let unheard = AtomicBool::new(false);
        Self { socket, unheard, watchdog: micros.filter(|micros| *micros > 0).map(Duration::from_micros) }
    }

    /// Recovery is done, and requests are served.
    pub(super) fn ready(&self, status: &str) {
        self.say(&format!("READY=1\nMAINPID={}\nSTATUS={status}", std::process::id()));
    }

    /// A reload begins; [`Manager::ready`] ends it.
    pub(super) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=reading config and runbooks"));
    }

    /// The end begins.
    pub(super) fn stopping(&self) {
        // Fed too: the engine's loop ends about now, and whoever waits for it waits in vain.
        self.say("STOPPING=1\nWATCHDOG=1\nSTATUS=draining: steps in progress may finish");
    }

    fn say(&self, text: &str) {
        let Some((socket, address)) = &self.socket else { return };
        let said = socket.send_to_addr(text.as_bytes(), address);
        let was_unheard = self.unheard.swap(said.is_err(), Ordering::SeqCst);
        if let Some(error) = said.err().filter(|_| !was_unheard) {
            tracing::warn!(%error, "the service manager does not hear");
        }
    }

    /// Feeds the watchdog for as long as engine and store answer. Ends at once where there is no watchdog.
    /// An engine that drains grants nothing more and need not look round.
    pub(super) async fn feed(&self, engine: &Engine, store: &dyn Store, draining: &AtomicBool) {
        let Some(every) = self.watchdog.map(|limit| limit / 2) else { return };
        let mut pause = tokio::time::interval(every);
        pause.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            pause.tick().await;
            let within = every.min(ANSWER_WITHIN);
            let engine = (!draining.load(Ordering::SeqCst)).then_some(engine);
            match tokio::time::timeout(within, both_go_round(engine, store)).await {
                Ok(()) => self.say("WATCHDOG=1"),
                Err(_) => {
                    tracing::error!(?within, "engine or store does not answer; the watchdog is not fed")
                }
            }
        }
    }
}

/// Ready when the engine has looked round once more and the store's writer has come to what was asked now.
async fn both_go_round(engine: Option<&Engine>, store: &dyn Store) {
    let writer = async {
        // A refusal is an answer too: a full disk is no reason to be started again.
        let _answered = store.commit(Box::new(|_| Ok(()))).await;
    };
    let scheduler = async {
        if let Some(engine) = engine {
            engine.look_round().await;
        }
    };
    tokio::join!(scheduler, writer);
}

fn open(name: &str) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}
