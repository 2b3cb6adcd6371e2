//! Opening the store and listening, also right behind a daemon that was killed.
//!
//! May import: `store`, `telemetry`. Must never: take a store from a process that lives.

use super::lifecycle::{Checked, Refusal};
use crate::step::release_memory;
use crate::store::{OpenError, SledOptions, SledStore, Store};
use crate::telemetry::Metrics;
use futures_util::FutureExt as _;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// How long a killed daemon's address and store may stay taken: a step that was just being started has them open
/// until it runs.
const LINGER: Duration = Duration::from_secs(2);
/// Between two tries to get them.
const LINGER_PAUSE: Duration = Duration::from_millis(10);

/// Opens the store below `path`, and tells whether all of it is what was written once that is known.
pub(super) async fn open_store(path: &Path, metrics: &Metrics) -> Result<(Arc<dyn Store>, Checked), Refusal> {
    let (path, metrics) = (path.join("store"), metrics.clone());
    let opened = tokio::task::spawn_blocking(move || open_store_when_free(&path, &metrics)).await;
    match opened {
        Ok(Ok(store)) => {
            let checked = store.checked().shared();
            Ok((Arc::new(store), checked))
        }
        Ok(Err(error)) => Err(Refusal(error.to_string())),
        Err(error) => Err(Refusal(format!("opening the store failed: {error}"))),
    }
}

/// Opens the store. Held by a living process it is refused at once, held by a dead one it will be free soon; and
/// once it is free, every step the dead one was starting runs, so that the sweep finds it.
fn open_store_when_free(path: &Path, metrics: &Metrics) -> Result<SledStore, OpenError> {
    let began = Instant::now();
    loop {
        let metrics = metrics.clone();
        let options = SledOptions {
            on_commit: Some(Arc::new(move |took, works| metrics.journal_committed(works, took))),
            on_quiet: Some(Arc::new(release_memory)),
            check_later: true,
            ..SledOptions::default()
        };
        match SledStore::open(path, options) {
            Err(OpenError::Held { by, .. })
                if began.elapsed() < LINGER && by.as_deref().is_none_or(|pid| !is_alive(pid)) =>
            {
                std::thread::sleep(LINGER_PAUSE);
            }
            opened => return opened,
        }
    }
}

/// Listens on `address` once it is free.
pub(super) async fn listen(address: SocketAddr) -> Result<TcpListener, Refusal> {
    let began = Instant::now();
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                if began.elapsed() > LINGER_PAUSE {
                    tracing::warn!(%address, waited = ?began.elapsed(), "the address was still taken");
                }
                return Ok(listener);
            }
            Err(error) if error.kind() == ErrorKind::AddrInUse && began.elapsed() < LINGER => {
                tokio::time::sleep(LINGER_PAUSE).await;
            }
            Err(error) => return Err(Refusal(format!("cannot listen on {address}: {error}"))),
        }
    }
}

fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    // The state follows the name, which is in brackets and may hold anything.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
