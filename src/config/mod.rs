//! The config: typed sections from file, environment and flags, with all problems at once.
//!
//! [`load`] is a function of its arguments and the files that secrets and keys are read from. One file per
//! section holds its type, defaults and checks; `source` layers the origins, `schema` lists every key.
//! New key: a field and a read in its section, a line in `schema::KEYS`, a line in `config/runbookd.toml`; then
//! `make reference`.
//! May import: `model`, `document`, `guard`, `schedule`, `secret`. Must never: read the process environment, start
//! anything but the programs that secrets come from, show a secret.

mod alertmanager;
mod auth;
mod automation;
mod breakers;
mod freezes;
mod limits;
mod mapping;
mod network;
mod notifiers;
mod outgoing;
mod prometheus;
mod reference;
mod runbooks;
mod schedule;
mod schema;
mod secret_command;
mod secrets;
mod server;
mod source;
mod steps;
mod store;
mod tls;
mod users;
mod vault;
mod web;
mod webhook;

pub use alertmanager::{Alertmanager, AlertmanagerAuth};
pub use auth::{Auth, BUILT_IN_ROLES, Jwt, JwtKey, MIN_JWT_SECRET};
pub use automation::{Automation, MappingSource};
pub use limits::HttpLimits;
pub use mapping::Mapping;
pub use notifiers::{Email, EmailTls, Notifier, People, PolicyLevel};
pub use outgoing::{Allowed, Outgoing};
pub use prometheus::Prometheus;
pub use reference::reference;
pub use runbooks::Runbooks;
pub use schedule::{Doubt, ScheduleEntry};
pub use server::Server;
pub use source::{Item, Overrides, Source, Stored};
pub use steps::{Containment, Steps};
pub use store::{Export, Store, StoreKind};
pub use tls::{ClientCertificate, Tls};
pub use users::LocalUser;
pub use web::{Web, load_web};
pub use webhook::{Basic, Webhook};

use crate::document::{Place, Problem, Problems, Severity, Table, parse};
use crate::guard::{Freeze, Profiles};
use crate::model::{RunbookId, Secret};
use crate::schedule::Schedule;
use crate::secret::Vault;
use source::{Setting, Sources};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;

/// Largest config file that is read.
const MAX_FILE: u64 = 4 << 20;

/// The whole config, checked. Only [`load`] makes one; its `Debug` shows no secret.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[server]`
    pub server: Server,
    /// `[store]`
    pub store: Store,
    /// `[runbooks]`
    pub runbooks: Runbooks,
    /// `[webhook]`
    pub webhook: Webhook,
    /// `[auth]`
    pub auth: Auth,
    /// `[automation]`
    pub automation: Automation,
    /// `[steps]`
    pub steps: Steps,
    /// `[[mappings]]`, in the order of the file.
    pub mappings: Vec<Mapping>,
    /// `[[schedules]]`, in the order of the file.
    pub schedules: Vec<ScheduleEntry>,
    /// `[[freezes]]`, in the order of the file.
    pub freezes: Vec<Freeze>,
    /// `[limits.http]`
    pub http_limits: HttpLimits,
    /// What `--web.config.file` asks for; [`load_web`] reads it, and whoever loads puts it here.
    pub web: Option<Web>,
    /// `[outgoing]`
    pub outgoing: Outgoing,
    /// `[alertmanager]`, when a URL is given.
    pub alertmanager: Option<Alertmanager>,
    /// `[prometheus]`, when its URL is given.
    pub prometheus: Option<Prometheus>,
    /// `[notifiers.NAME]` and `[policies.NAME]`.
    pub people: People,
    /// The built-in profiles and those of `[breakers.NAME]`.
    pub breakers: Profiles,
    /// `[secrets.NAME]`, by name.
    pub secrets: BTreeMap<String, Secret>,
    /// Everything secret in it, named or not.
    pub hidden: Vec<Secret>,
    /// Names of stored credentials it refers to.
    pub wanted: BTreeSet<String>,
    /// `[vault]`
    pub vault: Vault,
    items: Vec<Item>,
}

/// What came of reading a config.
#[derive(Debug)]
pub struct Loaded {
    /// The config; `None` when a problem is an error.
    pub config: Option<Config>,
    /// Everything wrong: first what came by flags and variables, then in the order of the file.
    pub problems: Vec<Problem>,
    /// The text to render the problems with: the file's, with what may be a secret replaced by `*`.
    pub text: String,
}

/// Why a config file could not be read at all.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system refused.
    #[error("the config file {file} cannot be read ({cause}); name the right one with --config.file")]
    Io {
        /// The file, as the person named it.
        file: String,
        /// What the system says.
        cause: std::io::Error,
    },
    /// Its bytes are not text.
    #[error("the config file {file} is not UTF-8 text")]
    NotText {
        /// The file, as the person named it.
        file: String,
    },
    /// It cannot be a config.
    #[error("the config file {file} is larger than {MAX_FILE} bytes")]
    TooLarge {
        /// The file, as the person named it.
        file: String,
    },
}

/// Reads the text of a config file, for [`load`]. A missing file is an error: a daemon that starts with
/// defaults because of a typing mistake in a path would act on nothing, silently.
///
/// # Errors
/// [`ReadError`] naming the file.
pub fn read(path: &Path) -> Result<String, ReadError> {
    let file = path.display().to_string();
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes));
    match read {
        Err(cause) => Err(ReadError::Io { file, cause }),
        Ok(length) if length as u64 > MAX_FILE => Err(ReadError::TooLarge { file }),
        Ok(_) => String::from_utf8(bytes).map_err(|_| ReadError::NotText { file }),
    }
}

/// As [`load_with`], before the store is open: a reference to a stored credential is taken to be good.
pub fn load(
    file_name: &str,
    path: &Path,
    text: &str,
    env: &BTreeMap<String, String>,
    flags: &Overrides,
) -> Loaded {
    load_with(file_name, path, text, env, flags, None)
}

/// Reads a config: `text` of the file at `path`, which the person called `file_name`, below the variables of
/// `env`, below `flags`. Secrets are resolved now, those of `stored` too; relative paths against the file's directory.
pub fn load_with(
    file_name: &str,
    path: &Path,
    text: &str,
    env: &BTreeMap<String, String>,
    flags: &Overrides,
    stored: Option<&Stored>,
) -> Loaded {
    let problems = Problems::new(file_name, text);
    let given = source::given(flags, env);
    let base = path.parent().unwrap_or(Path::new("")).to_owned();
    let mut sources = Sources::new(&problems, env, base, &given, stored);
    sources.leave_programs = flags.leave_programs;
    let mut root = parse(&problems);
    let garbled = problems.lines();
    let config = Config::read(&sources, &mut root);
    root.finish();
    let mut outside = complain_of_variables(&sources);
    let text = sources.masked_text();
    let (hidden, wanted) = (sources.hidden.take(), sources.wanted.take());
    let items = sources.into_items();
    outside.extend(given.into_iter().flat_map(|given| given.problems.into_list()));
    // What the parser made of a line it could not read is not worth a second complaint.
    let is_news = |problem: &Problem| problem.path.is_empty() || !garbled.contains(&problem.line);
    let problems: Vec<Problem> =
        outside.into_iter().chain(problems.into_list().into_iter().filter(is_news)).collect();
    let is_valid = problems.iter().all(|problem| problem.severity != Severity::Error);
    let config = is_valid.then_some(Config { items, hidden, wanted, ..config });
    Loaded { config, problems, text }
}

/// Variables that look like settings and are none: a misspelt one must not be ignored silently.
fn complain_of_variables(sources: &Sources<'_>) -> Vec<Problem> {
    let referred = sources.referred.borrow();
    let unknown = sources.env.keys().filter(|name| !referred.contains(*name));
    unknown
        .filter_map(|name| {
            let (message, help) = schema::complaint(name)?;
            Some(Problems::outside(name).place(0..0, "").problem(Severity::Error, message, help))
        })
        .collect()
}

impl Config {
    fn read<'d>(sources: &Sources<'d>, root: &mut Table<'d>) -> Self {
        let has_vault = root.has("vault");
        let named = secrets::read_named(sources, root, has_vault);
        // Its keys cannot be among what they open.
        let vault = vault::read(sources, root, &named);
        sources.has_vault.set(has_vault);
        if named.is_empty() {
            sources.item("secrets", "", Source::Default);
        }
        let (server, listen) = Server::read(sources, root);
        let store = Store::read(sources, root);
        let runbooks = Runbooks::read(sources, root);
        let (webhook, given) = Webhook::read(sources, root, &named);
        let (auth, known) = Auth::read(sources, root, &named);
        check_exposure(sources, &listen, &given, &known);
        let (automation, escalate_to) = Automation::read(sources, root);
        let people = People::read(sources, root, &named);
        people.check(sources, &escalate_to);
        Self {
            server,
            store,
            runbooks,
            webhook,
            auth,
            automation,
            steps: Steps::read(sources, root),
            mappings: mapping::read(sources, root),
            schedules: schedule::read(sources, root),
            freezes: freezes::read(sources, root),
            http_limits: HttpLimits::read(sources, root),
            web: None,
            outgoing: Outgoing::read(sources, root),
            alertmanager: Alertmanager::read(sources, root, &named),
            prometheus: Prometheus::read(sources, root),
            people,
            breakers: breakers::read(sources, root),
            secrets: named.into_iter().filter_map(|(name, secret)| Some((name, secret?))).collect(),
            hidden: Vec::new(),
            wanted: BTreeSet::new(),
            vault,
            items: Vec::new(),
        }
    }

    /// Every key with its effective value and who decided it, for `GET /api/config`. Holds no secret.
    pub fn effective(&self) -> Vec<Item> {
        self.items.clone()
    }

    /// TLS, wherever it is asked for.
    pub fn tls(&self) -> Option<&Tls> {
        self.server.tls.as_ref().or_else(|| self.web.as_ref()?.tls.as_ref())
    }

    /// What is wrong between `[server]`, `[webhook]` and `--web.config.file`.
    pub fn check_tls(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let in_web = self.web.as_ref().and_then(|web| web.tls.as_ref());
        if let (Some(tls), Some(_)) = (&self.server.tls, in_web) {
            let message = "TLS is also asked for in --web.config.file";
            problems.push(tls.place.problem(Severity::Error, message, "keep one of the two"));
        }
        if !self.webhook.client_cert_sans.is_empty() && self.tls().is_none_or(|tls| tls.client_ca.is_none()) {
            let message = "nobody verifies the certificates of clients";
            let help = "set server.tls with client_ca_file, or remove client_cert_sans";
            problems.push(self.webhook.client_cert_place.problem(Severity::Error, message, help));
        }
        problems
    }

    /// The problems of mappings and schedules whose runbook is not `known`.
    pub fn check_runbooks(&self, known: impl Fn(&RunbookId) -> bool) -> Vec<Problem> {
        let mappings = self.mappings.iter().filter(|mapping| !known(&mapping.runbook));
        let schedules = self.schedules.iter().filter(|entry| !known(&entry.schedule.runbook));
        mappings.map(Mapping::unknown_runbook).chain(schedules.map(ScheduleEntry::unknown_runbook)).collect()
    }

    /// The problems of schedules whose runbook would refuse what they give it; `why` says so.
    pub fn check_schedules(&self, why: impl Fn(&Schedule) -> Option<String>) -> Vec<Problem> {
        self.schedules.iter().filter_map(|entry| Some(entry.unfit(&why(&entry.schedule)?))).collect()
    }

    /// The warnings about schedules that will not do what they look like; `why` says what will happen.
    pub fn doubt_schedules(&self, why: impl Fn(&Schedule) -> Vec<Doubt>) -> Vec<Problem> {
        let doubts =
            |entry: &ScheduleEntry| why(&entry.schedule).iter().map(|doubt| entry.doubt(doubt)).collect();
        self.schedules.iter().flat_map::<Vec<Problem>, _>(doubts).collect()
    }

    /// The problems of local users whose password hash `check` refuses, saying why.
    pub fn check_users(&self, check: impl Fn(&Secret) -> Result<(), String>) -> Vec<Problem> {
        let users = self.auth.users.iter().flatten();
        users.filter_map(|user| Some(user.problem(&check(&user.password_hash).err()?))).collect()
    }

    /// The problems of entries of `outgoing.allow` that `check` refuses, saying why.
    pub fn check_outgoing(&self, check: impl Fn(&str) -> Result<(), String>) -> Vec<Problem> {
        let refused = self.outgoing.allow.iter().filter_map(|entry| Some((entry, check(&entry.text).err()?)));
        refused.map(|(entry, why)| entry.problem(&why)).collect()
    }
}

/// Who can reach it must prove who they are, unless only this machine can.
fn check_exposure(
    sources: &Sources<'_>,
    listen: &Setting<SocketAddr>,
    webhook: &webhook::Given,
    known: &auth::Given,
) {
    let address = listen.value;
    if address.ip().to_canonical().is_loopback() {
        if !webhook.credential && !webhook.open.value {
            let message = "the webhook has no credential and is not open: every alert will be refused";
            let help = "set webhook.bearer or webhook.basic, or webhook.allow_unauthenticated = true";
            sources.problems.add(webhook.place.problem(Severity::Warning, message, help));
        }
        return;
    }
    let wrong = |place: &Place, message: String, help: &str| {
        sources.problems.add(place.problem(Severity::Error, message, help));
    };
    if webhook.open.value {
        let message =
            format!("the webhook may not be open to all on {address}, which is not a loopback address");
        wrong(&webhook.open.place, message, "set webhook.bearer or webhook.basic instead");
    } else if !webhook.credential {
        let message = format!("{address} is not a loopback address, and the webhook needs no credential");
        wrong(&listen.place, message, "set webhook.bearer or webhook.basic, or listen on 127.0.0.1");
    }
    known.check_exposure(sources, address);
    if !known.people {
        let message = format!("{address} is not a loopback address, and the API has no authentication");
        wrong(&listen.place, message, "set auth.jwt or auth.users_file, or listen on 127.0.0.1");
    }
}

#[cfg(test)]
mod tests;
