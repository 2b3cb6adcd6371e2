//! An issuer's keys, fetched in the background and kept: an outage of the issuer is not one of ours.
//!
//! One task fetches; whoever meets an unknown key rings for it, at most once a minute however many forge. May import:
//! `auth`, `step` (the HTTP client). Must never: fetch on behalf of one request, or believe keys older than allowed.

use super::lock;
use crate::auth::{KeyServer, KeySet};
use crate::step::HttpClient;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

/// For one answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest document; the largest issuers serve 20 KB.
const MAX_DOCUMENT: usize = 256 << 10;
/// Between two fetches because of unknown keys.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// After a failure, doubling.
const RETRY: Duration = Duration::from_secs(1);
/// At most between two tries while it fails.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Where keys are, and how long they are good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwksSettings {
    /// The document.
    pub url: String,
    /// Between two fetches.
    pub refresh: Duration,
    /// How long keys are believed when no newer ones can be had.
    pub max_age: Duration,
}

#[derive(Default)]
struct State {
    keys: Option<(Arc<KeySet>, Instant)>,
    asked_again: Option<Instant>,
}

/// An issuer's keys. The fetching ends with the last of its users.
pub struct Jwks {
    settings: JwksSettings,
    client: HttpClient,
    state: Mutex<State>,
    wake: Arc<Notify>,
    fetching: AtomicBool,
    /// Counts fetches, good or bad.
    fetched: watch::Sender<u64>,
    task: Mutex<Option<AbortHandle>>,
}

impl fmt::Debug for Jwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwks").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Drop for Jwks {
    fn drop(&mut self) {
        let task = lock(&self.task).take();
        if let Some(task) = task {
            task.abort();
        }
    }
}

impl Jwks {
    /// Begins to fetch.
    pub fn start(settings: JwksSettings, client: HttpClient) -> Arc<Self> {
        let jwks = Arc::new(Self {
            settings,
            client,
            state: Mutex::default(),
            wake: Arc::default(),
            fetching: AtomicBool::new(true),
            fetched: watch::Sender::new(0),
            task: Mutex::new(None),
        });
        let task = tokio::spawn(keep(Arc::downgrade(&jwks)));
        *lock(&jwks.task) = Some(task.abort_handle());
        jwks
    }

    /// What it was started with.
    pub fn settings(&self) -> &JwksSettings {
        &self.settings
    }

    /// One fetch. What was had before stays where it fails.
    async fn fetch(&self) -> Result<(), String> {
        self.fetching.store(true, Ordering::SeqCst);
        let document = self.client.get(&self.settings.url, PATIENCE, MAX_DOCUMENT).await;
        let keys = document.and_then(|document| KeySet::read(&document).map_err(|error| error.to_string()));
        let outcome = keys.map(|keys| lock(&self.state).keys = Some((Arc::new(keys), Instant::now())));
        self.fetching.store(false, Ordering::SeqCst);
        self.fetched.send_modify(|count| *count += 1);
        outcome
    }

    /// Whether this one may ring; from then on nobody may for a minute.
    fn may_ask_again(&self) -> bool {
        let mut state = lock(&self.state);
        let now = Instant::now();
        let due = state.asked_again.is_none_or(|asked| now.duration_since(asked) >= ASK_AGAIN);
        if due {
            state.asked_again = Some(now);
        }
        due
    }
}

impl KeyServer for Jwks {
    fn keys(&self) -> Option<Arc<KeySet>> {
        let state = lock(&self.state);
        let (keys, at) = state.keys.as_ref()?;
        (at.elapsed() <= self.settings.max_age).then(|| Arc::clone(keys))
    }

    fn look_again(&self) -> BoxFuture<'_, ()> {
        async move {
            let mut fetched = self.fetched.subscribe();
            if self.may_ask_again() {
                self.wake.notify_one();
            } else if !self.fetching.load(Ordering::SeqCst) {
                return;
            }
            // Too late is as good as in vain: the token is then refused, and may come again.
            let _done = timeout(PATIENCE + Duration::from_secs(1), fetched.changed()).await;
        }
        .boxed()
    }
}

async fn keep(weak: Weak<Jwks>) {
    let mut failures: u32 = 0;
    loop {
        let Some(jwks) = weak.upgrade() else { return };
        let wait = match jwks.fetch().await {
            Ok(()) => {
                if failures > 0 {
                    tracing::info!(url = jwks.settings.url, failures, "the issuer's keys can be had again");
                }
                failures = 0;
                jwks.settings.refresh
            }
            Err(why) => {
                if failures == 0 {
                    tracing::warn!(
                        url = jwks.settings.url,
                        why,
                        "the issuer's keys cannot be had; the last ones stay"
                    );
                }
                failures = failures.saturating_add(1);
                let wait = RETRY.saturating_mul(1 << failures.min(10).saturating_sub(1));
                wait.min(RETRY_MAX).min(jwks.settings.refresh)
            }
        };
        let wake = Arc::clone(&jwks.wake);
        // Whoever used the keys may go while nothing is fetched.
        drop(jwks);
        let _rung = timeout(wait, wake.notified()).await;
    }
}
