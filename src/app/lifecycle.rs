//! A process from start to end: read, open, recover, serve, drain, shut.

use super::backup::Exporter;
use super::build;
use super::children;
use super::door::Door;
use super::edge::{self, Limits};
use super::keeper::{self, Keeper};
use super::library::Shelf;
use super::opening::{listen, open_store};
use super::retention::{Retention, note_head};
use super::service::Manager;
use super::signals::Signals;
use super::world::{RealWorld, Shelved};
use super::{Environment, SystemClock, credentials, load_config};
use super::{candidate, scheduler};
use crate::auth::install_crypto;
use crate::backup;
use crate::catalogue::{Pace, Watch};
use crate::config::{Config, Overrides};
use crate::document::Problem;
use crate::engine::{Engine, Parts};
use crate::http::handler::Services;
use crate::http::{Edge, Server};
use crate::intake::Intake;
use crate::model::Clock;
use crate::notifier::{Book, NotifierMessenger, Notifiers, Sender, SenderParts};
use crate::secret::Secrets;
use crate::step::{
    ChildRules, Dirs, HttpClient, Runner, forbid_new_privileges, prepare_daemon, release_memory,
};
use crate::store::Ids;
use crate::store::Store;
use crate::store::records::{QueueCount, Records};
use crate::telemetry::{Build, Metrics, logging};
use futures_util::future::{BoxFuture, Shared};
use std::convert::Infallible;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::signal::unix::Signal;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// What `serve` is told by its flags.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// `--config.file`
    pub config_file: String,
    /// Flags that win over the file.
    pub overrides: Overrides,
    /// `--log.level`
    pub log_level: String,
    /// `--log.format`
    pub log_format: logging::Format,
    /// `--web.enable-lifecycle`
    pub enable_lifecycle: bool,
    /// The environment.
    pub env: Environment,
}

/// Why the daemon refused to start, or had to end.
pub(super) struct Refusal(pub(super) String);

impl<E: Display> From<(&'static str, E)> for Refusal {
    fn from((what, error): (&'static str, E)) -> Self {
        Self(format!("{what}: {error}"))
    }
}

/// Serves until told to end. The exit code: 0 after a drain, 1 when it refused to start or could not go on.
pub fn serve(options: ServeOptions) -> i32 {
    let (config, warnings) = match load_config(&options.config_file, &options.env, &options.overrides) {
        Ok(loaded) => loaded,
        Err(problems) => {
            complain(&problems);
            return 1;
        }
    };
    let secrets = Secrets::of_config(config.secrets.clone(), config.hidden.clone());
    let clock = Arc::new(SystemClock);
    let logs = match logging::init(&options.log_level, options.log_format, clock, secrets.clone()) {
        Ok(logs) => logs,
        Err(error) => {
            complain(&format!("--log.level: {error}"));
            return 1;
        }
    };
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    children::warn_of_root(&config.steps);
    let privileges = || if config.steps.no_new_privileges { forbid_new_privileges() } else { Ok(()) };
    let code = match prepare_daemon().and_then(|()| privileges()).and_then(|()| runtime()) {
        Ok(runtime) => {
            let code = runtime.block_on(run(config, secrets, &options));
            // A blocking reader of an endless pipe must not keep the process.
            runtime.shutdown_timeout(Duration::from_secs(1));
            code
        }
        Err(error) => Err(Refusal(format!("the process cannot be prepared: {error}"))),
    };
    let code = match code {
        Ok(()) => 0,
        Err(Refusal(why)) => {
            tracing::error!(why, "runbookd ends");
            complain(&why);
            1
        }
    };
    logs.flush(Duration::from_secs(2));
    code
}

fn complain(why: &str) {
    use std::io::Write as _;
    // Nobody reads it; then nobody is missing it.
    let _unread = writeln!(std::io::stderr(), "runbookd: {}", why.trim_end());
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("runbookd").build()
}

/// Whether everything in the store is what was written, once that is known.
pub(super) type Checked = Shared<BoxFuture<'static, Result<(), String>>>;

/// Everything that lives from start to end.
struct Daemon {
    services: Arc<Services>,
    edge: Arc<Edge>,
    shelf: Shelf,
    store: Arc<dyn Store>,
    checked: Checked,
    reload: Arc<Notify>,
    /// Whether the config as it stands in its file is in force.
    in_force: AtomicBool,
    people: People,
    manager: Arc<Manager>,
    door: Door,
}

/// Who can be told, and by what.
struct People {
    notifiers: Notifiers,
    /// The client of all of them.
    client: HttpClient,
    /// Where this program listens, for links in messages.
    address: SocketAddr,
}

impl People {
    fn new(config: &Config, metrics: &Metrics, address: SocketAddr) -> Result<Self, Refusal> {
        let client = HttpClient::build().map_err(|error| ("no HTTP client", error))?;
        if let Some(problem) = client.problem() {
            tracing::warn!(problem, "https cannot be verified");
        }
        let people = Self { notifiers: Notifiers::default(), client, address };
        people.notifiers.replace(people.book(config, metrics)?);
        Ok(people)
    }

    /// Who can be told by `config`, each with a series of its own in the metrics.
    fn book(&self, config: &Config, metrics: &Metrics) -> Result<Book, Refusal> {
        let book = build::notifiers(config, &self.client, self.address).map_err(|error| ("config", error))?;
        book.channels.keys().for_each(|name| metrics.register_notifier(name));
        Ok(book)
    }
}

async fn run(config: Config, secrets: Secrets, options: &ServeOptions) -> Result<(), Refusal> {
    install_crypto();
    let (mut signals, halt) = Signals::receive()?;
    edge::allow_descriptors(config.server.max_connections);
    let listener = listen(config.server.listen).await?;
    let address = listener.local_addr().map_err(|error| ("the listener has no address", error))?;
    let (daemon, config) = Daemon::build(config, secrets, options, address).await?;
    // To the very end: a step can be held or killed also in the last drain.
    tokio::spawn(halt.heed(Arc::clone(&daemon.services)));
    let limits = Limits::begin(&daemon.edge, &daemon.services).await;
    let counting = tokio::spawn(limits.clone().keep());
    let shutdown = CancellationToken::new();
    let server = tokio::spawn(Server::new(listener, Arc::clone(&daemon.edge)).serve(shutdown.clone()));
    let listen_file = config.store.path.join("listen");
    std::fs::write(&listen_file, format!("{address}\n"))
        .map_err(|error| ("the listen file cannot be written", error))?;
    tracing::info!(address = %address, version = env!("CARGO_PKG_VERSION"), "listening");
    let told = CancellationToken::new();
    let sender = tokio::spawn(daemon.sender().run(daemon.services.engine.news(), told.clone()));
    let ended = daemon.live(&config, options, &mut signals).await;
    tracing::info!("draining");
    daemon.manager.stopping();
    // People can still look and stop; webhooks are answered 503 and come again.
    daemon.services.draining.store(true, Ordering::SeqCst);
    daemon.services.engine.drain(config.server.drain_timeout).await;
    // What the last steps ended in is told, too. It bounds its own end.
    told.cancel();
    let _ended = sender.await;
    shutdown.cancel();
    // The server bounds its own end; what it could not finish it has cut.
    let _cut = server.await;
    counting.abort();
    limits.tell().await;
    note_head(&daemon.services.records, "the head of the audit log at the end").await;
    daemon.services.identity.write_down().await;
    daemon.store.shut().await;
    if let Some(cgroups) = &daemon.services.runner.children().cgroups {
        cgroups.leave();
    }
    // A next start overwrites it; a reader that finds it finds nobody.
    let _gone = std::fs::remove_file(listen_file);
    tracing::info!("ended");
    ended
}

const BUILT: Build = Build {
    version: env!("CARGO_PKG_VERSION"),
    revision: match option_env!("RUNBOOKD_REVISION") {
        Some(revision) => revision,
        None => "unknown",
    },
};

/// What everything else stands on.
struct Base {
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    dirs: Arc<Dirs>,
    store: Arc<dyn Store>,
    checked: Checked,
    children: ChildRules,
    records: Records,
    secrets: Secrets,
}

impl Daemon {
    /// Builds everything. Gives the config as well: what it takes from the store is known only here.
    async fn build(
        config: Config,
        secrets: Secrets,
        options: &ServeOptions,
        address: SocketAddr,
    ) -> Result<(Self, Config), Refusal> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let metrics = Metrics::new(&BUILT, clock.now());
        let dirs = prepare_dirs(&config.store.path)?;
        let (store, checked) = open_store(&config.store.path, &metrics).await?;
        let children = children::prepare(&config.steps, &dirs).await.map_err(Refusal)?;
        let records = Records::new(Arc::clone(&store));
        let config = credentials::with_credentials(config, &secrets, &records, &*clock, options).await?;
        let base = Base { clock, metrics, dirs, store, checked, children, records, secrets };
        Ok((Self::build_on(base, &config, options, address).await?, config))
    }

    async fn build_on(
        base: Base,
        config: &Config,
        options: &ServeOptions,
        address: SocketAddr,
    ) -> Result<Self, Refusal> {
        let Base { clock, metrics, dirs, store, checked, children, records, secrets } = base;
        let latest = records.latest_ulid().await.map_err(|error| ("the store cannot be read", error))?;
        let (wake, queue) = <(Arc<Notify>, Arc<QueueCount>)>::default();
        let shelf = Shelf::new(config, records.clone(), Arc::clone(&clock), metrics.clone());
        let (instance, ids) = (instance_name(), Arc::new(Ids::after(latest.as_deref())));
        let people = People::new(config, &metrics, address)?;
        let (runner, world) = world(config, &dirs, children, &people, &metrics, &secrets)?;
        let engine = Engine::new(Parts {
            records: records.clone(),
            world: Arc::new(world),
            clock: Arc::clone(&clock),
            metrics: metrics.clone(),
            wake: Arc::clone(&wake),
            queue: Arc::clone(&queue),
            max_running: config.automation.max_running,
            runbooks: Arc::new(Shelved(Arc::clone(&shelf.library))),
            ids: Arc::clone(&ids),
            limits: build::engine_limits(config),
        });
        keeper::load(&records, &engine, clock.now()).await;
        let intake = Intake::new(
            Arc::clone(&store),
            Arc::clone(&clock),
            ids,
            Arc::clone(&shelf.library),
            build::intake_options(config, &instance),
            queue,
            wake,
            metrics.clone(),
            Arc::clone(engine.board()),
        );
        let door = Door::new(&records, &clock, &metrics, &shelf.library, people.client.clone());
        let (reload, in_force) = (Arc::new(Notify::new()), AtomicBool::new(true));
        let services = Arc::new(Services {
            intake,
            engine,
            records,
            identity: door.identity(),
            library: Arc::clone(&shelf.library),
            broken: Arc::clone(&shelf.broken),
            runbooks_dir: config.runbooks.dir.display().to_string(),
            outputs: dirs.outputs.clone(),
            runner,
            secrets,
            vault: tokio::sync::Mutex::new(config.vault.clone()),
            metrics: metrics.clone(),
            config: RwLock::new(build::config_items(config)),
            clock: Arc::clone(&clock),
            candidate: candidate::reader(options, &instance, shelf.origin()),
            instance,
            ready: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            reload: options.enable_lifecycle.then(|| Arc::clone(&reload)),
            last_webhook: AtomicI64::new(0),
        });
        let edge = edge::build(config, &services, &door, address).map_err(Refusal)?;
        let manager = Arc::new(Manager::of(&options.env));
        Ok(Self { services, edge, shelf, store, checked, reload, in_force, people, manager, door })
    }

    /// What tells people.
    fn sender(&self) -> Sender {
        Sender::new(SenderParts {
            records: self.services.records.clone(),
            notifiers: self.people.notifiers.clone(),
            clock: Arc::clone(&self.services.clock),
            metrics: self.services.metrics.clone(),
        })
    }

    /// From the first reading of the runbooks to the reason to end.
    async fn live(
        &self,
        config: &Config,
        options: &ServeOptions,
        signals: &mut Signals,
    ) -> Result<(), Refusal> {
        let all_good = self.shelf.refresh().await;
        self.note_reload(all_good);
        let unknown = self.unknown_runbooks(config);
        if !unknown.is_empty() {
            let lines: Vec<String> = unknown.iter().map(ToString::to_string).collect();
            return Err(Refusal(lines.join("\n")));
        }
        let intake = &self.services.intake;
        intake.load_mappings().await.map_err(|error| ("the mappings cannot be read", error))?;
        let engine = self.services.engine.clone();
        let keeper = Keeper::new(&self.services, &config.store.path);
        keeper.begin().await;
        // To the very end, as the signal.
        tokio::spawn(keeper.keep());
        let (cursor, live) = engine.recover().await.map_err(|error| ("recovery", error))?;
        let checked = self.checked.clone();
        // Alerts are taken meanwhile; but what is done cannot be taken back, and a record that is lost may forbid it.
        let dispatcher = tokio::spawn(async move {
            if checked.await.is_ok() {
                let tidied = tokio::task::spawn_blocking(release_memory);
                engine.schedule(cursor).await;
                drop(tidied);
            }
        });
        intake.reschedule(build::schedules(config));
        note_head(&self.services.records, "the head of the audit log at the start").await;
        let retention = tokio::spawn(self.retention(config).keep());
        let exporter = self.exporter(config).map(|exporter| tokio::spawn(exporter.keep()));
        let scheduler = tokio::spawn(scheduler::keep(Arc::clone(&self.services)));
        let renewed = Arc::new(Notify::new());
        let certificates = tokio::spawn(edge::keep_certificate(
            Arc::clone(&self.edge),
            self.services.metrics.clone(),
            Arc::clone(&renewed),
        ));
        let identity = tokio::spawn(self.services.identity.clone().keep());
        self.services.ready.store(true, Ordering::SeqCst);
        tracing::info!(live_executions = live, "ready");
        self.manager.ready("ready");
        let (manager, services, store) =
            (Arc::clone(&self.manager), Arc::clone(&self.services), Arc::clone(&self.store));
        // To the very end: a long drain is no standstill.
        tokio::spawn(async move { manager.feed(&services.engine, &*store, &services.draining).await });
        let ended = self.wait(config, options, signals, &renewed).await;
        scheduler.abort();
        retention.abort();
        exporter.inspect(|exporter| exporter.abort());
        identity.abort();
        certificates.abort();
        dispatcher.abort();
        ended
    }

    fn retention(&self, config: &Config) -> Retention {
        let (records, clock) = (self.services.records.clone(), Arc::clone(&self.services.clock));
        Retention { records, clock, store: config.store.clone(), outputs: self.services.outputs.clone() }
    }

    fn exporter(&self, config: &Config) -> Option<Exporter> {
        let services = &self.services;
        Some(Exporter {
            settings: config.store.backup.clone()?,
            store: Arc::clone(&self.store),
            outputs: services.outputs.clone(),
            instance: services.instance.clone(),
            clock: Arc::clone(&services.clock),
            metrics: services.metrics.clone(),
        })
    }

    fn unknown_runbooks(&self, config: &Config) -> Vec<Problem> {
        let library = Arc::clone(&self.shelf.library.read().unwrap_or_else(PoisonError::into_inner));
        config.check_runbooks(|id| library.get(id).is_some())
    }

    /// Until the reason to end. Neither that nor a halt waits for what is done meanwhile, such as a reload that asks a
    /// program for a secret.
    async fn wait(
        &self,
        config: &Config,
        options: &ServeOptions,
        signals: &mut Signals,
        renewed: &Notify,
    ) -> Result<(), Refusal> {
        let (end, hangup) = signals.split();
        tokio::select! {
            () = end => Ok(()),
            why = self.services.engine.fatal() => Err(Refusal(why)),
            Err(why) = self.checked.clone() => Err(Refusal(why)),
            never = self.keep_current(config, options, hangup, renewed) => match never {},
        }
    }

    /// Takes in what changed of config, runbooks and certificates, one thing after the other.
    async fn keep_current(
        &self,
        config: &Config,
        options: &ServeOptions,
        hangup: &mut Signal,
        renewed: &Notify,
    ) -> Infallible {
        let watch = config.runbooks.watch.then(|| watch(&config.runbooks.dir)).flatten();
        let changed = watch.as_ref().map_or_else(Arc::default, Watch::wake);
        // What changed between the first reading and the beginning of the watch.
        changed.notify_one();
        loop {
            tokio::select! {
                _ = hangup.recv() => self.reload(options).await,
                () = self.reload.notified() => self.reload(options).await,
                () = changed.notified() => self.refresh().await,
                () = renewed.notified() => self.refresh().await,
            }
        }
    }

    async fn refresh(&self) {
        let all_good = self.shelf.refresh().await;
        self.note_reload(all_good);
    }

    fn note_reload(&self, all_good: bool) {
        let certificate = self.edge.tls().is_none_or(|tls| tls.is_current());
        if all_good && certificate && self.in_force.load(Ordering::SeqCst) {
            self.services.metrics.config_loaded(self.services.clock.now());
        } else {
            self.services.metrics.config_refused();
        }
    }

    async fn reload(&self, options: &ServeOptions) {
        self.manager.reloading();
        self.read_again(options).await;
        let is_in_force = self.in_force.load(Ordering::SeqCst);
        self.manager.ready(if is_in_force { "ready" } else { "ready; the config as it stands is refused" });
    }

    /// All that can fail comes first; only then is anything live touched. Whatever is wrong, the old config stays.
    async fn read_again(&self, options: &ServeOptions) {
        // Nobody stores a credential meanwhile, and so none is lost.
        let mut vault = self.services.vault.lock().await;
        let read = credentials::read_again(&self.services.records, &*self.services.clock, options).await;
        let built = read.and_then(|(config, warnings)| {
            let opening =
                self.door.prepare(&config, self.people.address).map_err(|error| error.to_string())?;
            let book = self.people.book(&config, &self.services.metrics);
            Ok((config, warnings, opening, book.map_err(|Refusal(why)| why)?))
        });
        let all_good = self.shelf.refresh().await;
        let refused = match &built {
            Ok((config, ..)) => self.unknown_runbooks(config).first().map(ToString::to_string),
            Err(problems) => Some(problems.clone()),
        };
        match (built, refused) {
            (Ok((config, warnings, opening, book)), None) => {
                for warning in &warnings {
                    tracing::warn!("{warning}");
                }
                self.services.intake.reconfigure(build::intake_options(&config, &self.services.instance));
                self.services.intake.reschedule(build::schedules(&config));
                self.services.engine.reconfigure(build::engine_limits(&config));
                self.shelf.adopt(&config.breakers);
                self.people.notifiers.replace(book);
                self.edge.replace_auth(self.door.open(opening));
                self.edge.replace_doors(build::doors(&config));
                vault.clone_from(&config.vault);
                self.services.secrets.replace_config(config.secrets.clone(), config.hidden.clone());
                match credentials::open(&self.services.records, &config.vault, &*self.services.clock).await {
                    Ok(stored) => self.services.secrets.replace_stored(stored),
                    Err(error) => tracing::error!(%error, "the old credentials stay"),
                }
                *self.services.config.write().unwrap_or_else(PoisonError::into_inner) =
                    build::config_items(&config);
                self.in_force.store(true, Ordering::SeqCst);
                self.note_reload(all_good);
                tracing::info!(
                    "config reloaded: mappings, schedules, guards, credentials, request and queue limits, breaker profiles, notifiers and policies are in force; the rest needs a restart"
                );
            }
            (_, refused) => {
                // Until the next reload; a runbook that is mended meanwhile does not mend the config.
                self.in_force.store(false, Ordering::SeqCst);
                self.services.metrics.config_refused();
                tracing::error!(
                    why = refused.unwrap_or_default(),
                    "the new config is refused; the old one stays"
                );
            }
        }
    }
}

fn prepare_dirs(path: &Path) -> Result<Arc<Dirs>, Refusal> {
    if let Some(why) = backup::unfinished(path) {
        return Err(Refusal(why));
    }
    let dirs = Dirs::prepare(path).map_err(|error| Refusal(format!("{}: {error}", path.display())))?;
    Ok(Arc::new(dirs))
}

/// What does the steps, and what the engine sees of it.
fn world(
    config: &Config,
    dirs: &Arc<Dirs>,
    children: ChildRules,
    people: &People,
    metrics: &Metrics,
    secrets: &Secrets,
) -> Result<(Arc<Runner>, RealWorld), Refusal> {
    let outgoing = build::outgoing(config).map_err(|error| ("config", error))?;
    let messenger = NotifierMessenger {
        notifiers: people.notifiers.clone(),
        clock: Arc::new(SystemClock),
        metrics: Some(metrics.clone()),
    };
    let ways =
        build::ways(config, &people.client, messenger, secrets.clone()).map_err(|error| ("config", error))?;
    let (prometheus, alertmanager) = (ways.prometheus.clone(), ways.alertmanager.clone());
    let runner = Runner::new(Arc::clone(dirs), people.client.clone(), Arc::new(outgoing), ways);
    let runner = Arc::new(runner.with_children(children));
    let secrets = secrets.clone();
    Ok((Arc::clone(&runner), RealWorld { runner, prometheus, alertmanager, secrets }))
}

/// Watches the runbooks. Without it, SIGHUP is what makes changes known.
fn watch(dir: &Path) -> Option<Watch> {
    let watching = Watch::start(dir, Pace::default());
    watching
        .inspect_err(|error| {
            tracing::error!(dir = %dir.display(), %error, "the runbooks directory is not watched; send SIGHUP after a change");
        })
        .ok()
}

pub(super) fn instance_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "runbookd".to_owned() } else { name.chars().take(128).collect() }
}
