//! Every key of the config file: its name, what a variable of it is read as, its flag, what it means.
//!
//! The order here is the order of `GET /api/config`. Tests hold this list, the sections that read it, the shipped
//! `config/runbookd.toml` and the reference in `config/README.md` together. May import: `document`. Must never: hold a
//! default or a check; they live in the section's file, and `reference` asks them there.

use crate::document::{Shape, nearest};

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    /// Its path; `mappings`, `freezes`, `breakers` and `secrets` stand for whole tables.
    pub(super) name: &'static str,
    /// What its variable is read as; `None` where only the file can give it.
    pub(super) shape: Option<Shape>,
    /// The flag that overrides it.
    pub(super) flag: Option<&'static str>,
    /// What it means, for people.
    pub(super) about: &'static str,
    /// What only the file can give.
    pub(super) kind: Kind,
    /// The keys of its table, or of each of its tables, with what they mean.
    pub(super) inside: &'static [(&'static str, &'static str)],
    /// Whether a reload puts it in force; else a restart does.
    pub(super) reload: bool,
}

/// How a key is written in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// As its variable is read.
    Plain,
    /// A text.
    Text,
    /// A value, or `false`.
    OrFalse,
    /// A secret: `{ env = … }`, `{ file = … }` or `{ secret = … }`; perhaps a list of them.
    Secret,
    /// A table.
    Table,
    /// Tables under names of one's own: `[key.NAME]`.
    Named,
    /// Tables in a list: `[[key]]`.
    List,
}

impl Key {
    /// The name of its variable.
    pub(super) fn variable(&self) -> String {
        format!("RUNBOOKD_{}", self.name.to_ascii_uppercase().replace('.', "__"))
    }

    const fn flag(self, flag: &'static str) -> Self {
        Self { flag: Some(flag), ..self }
    }

    const fn reloads(self) -> Self {
        Self { reload: true, ..self }
    }

    const fn holding(self, inside: &'static [(&'static str, &'static str)]) -> Self {
        Self { inside, ..self }
    }
}

const fn key(name: &'static str, shape: Shape, about: &'static str) -> Key {
    Key { name, shape: Some(shape), flag: None, about, kind: Kind::Plain, inside: &[], reload: false }
}

const fn in_file(name: &'static str, kind: Kind, about: &'static str) -> Key {
    Key { name, shape: None, flag: None, about, kind, inside: &[], reload: false }
}

/// In the order in which they are shown.
pub(super) const KEYS: &[Key] = &[
    key("server.listen", Shape::Text, "Where to listen: `IP:PORT`, or `:PORT` for every IPv4 address; port 0 lets the system choose. An address that others can reach needs credentials in `[webhook]` and `[auth]`.").flag("--web.listen-address"),
    key("server.external_url", Shape::Text, "How people reach it, for links in messages.").flag("--web.external-url"),
    in_file("server.tls", Kind::Table, "Serve https. The files are read again when they change.").holding(&[("cert_file", "the certificate with its intermediates, PEM"), ("key_file", "its key, PEM, without any permission for others"), ("client_ca_file", "who signs the certificates of clients; without it none is asked for")]),
    key("server.trusted_proxies", Shape::List, "Addresses and networks that may set `X-Forwarded-For` and `X-Forwarded-Proto`."),
    key("server.max_body", Shape::Text, "Largest body of a request."),
    key("server.max_connections", Shape::Integer, "Connections served at once."),
    key("server.max_connections_per_peer", Shape::Integer, "Of those, from one address; an IPv6 /64 counts as one, trusted proxies are exempt."),
    key("server.drain_timeout", Shape::Text, "How long steps in progress may go on after SIGTERM."),
    key("store.kind", Shape::Text, "The engine."),
    key("store.path", Shape::Text, "The directory of the data; made when missing.").flag("--storage.path"),
    key("store.retention", Shape::Text, "How long executions with their output, decisions and escalations are kept after their end."),
    key("store.audit_retention", Shape::Text, "How long records of the audit log are kept."),
    in_file("store.backup", Kind::Table, "Backups by the clock.").holding(&[("path", "the directory they are put into; each instance needs its own"), ("every", "the time between two; 24h unless given"), ("keep", "how many of them stay; 7 unless given")]),
    key("runbooks.dir", Shape::Text, "The directory of the runbooks; `<id>.toml` is the runbook `<id>`.").flag("--runbooks.dir"),
    key("runbooks.watch", Shape::Boolean, "Pick up changes of the directory. A bad file keeps its last good version."),
    in_file("webhook.bearer", Kind::Secret, "A token that delivers alerts, or a list of them.").reloads(),
    in_file("webhook.basic", Kind::Table, "A user that delivers alerts, or a list of them.").holding(&[("user", "the name"), ("password", "a secret")]).reloads(),
    key("webhook.client_cert_sans", Shape::List, "Whose certificate, verified against `server.tls.client_ca_file`, has one of these names delivers alerts.").reloads(),
    key("webhook.allow_unauthenticated", Shape::Boolean, "Take deliveries without a credential; only on a loopback address.").reloads(),
    in_file("auth.jwt.secret", Kind::Secret, "What tokens are signed with, at least 32 bytes. One of `secret`, `public_key_file` and `jwks_url`.").reloads(),
    in_file("auth.jwt.public_key_file", Kind::Text, "The issuer's public key, PEM.").reloads(),
    in_file("auth.jwt.jwks_url", Kind::Text, "Where the issuer serves its keys; https, or this machine.").reloads(),
    in_file("auth.jwt.jwks_refresh", Kind::Text, "How often they are fetched.").reloads(),
    in_file("auth.jwt.jwks_max_age", Kind::Text, "How long the last ones are believed while they cannot be had.").reloads(),
    in_file("auth.jwt.issuer", Kind::Text, "The issuer that tokens must name.").reloads(),
    in_file("auth.jwt.audience", Kind::Text, "The audience that tokens must name.").reloads(),
    key("auth.roles_claim", Shape::Text, "The claim that holds the roles: a list, or a text with commas.").reloads(),
    key("auth.users_file", Shape::Text, "People with a password, a line each; without any permission for others.").reloads(),
    key("auth.signup", Shape::Boolean, "Whether people may make accounts for themselves, which may read.").reloads(),
    key("auth.session_idle", Shape::Text, "How long a session lives without being used.").reloads(),
    key("auth.session_max", Shape::Text, "How long a session lives at all.").reloads(),
    key("auth.dev_login", Shape::Boolean, "Whether `POST /dev-login` makes a token for whoever asks; only on a loopback address.").reloads(),
    in_file("auth.roles", Kind::Named, "Own roles: a name, and a list of the permissions `read`, `execute`, `edit`, `secrets`, `audit`, `admin`.").reloads(),
    key("automation.max_running", Shape::Integer, "Executions with a step in progress."),
    key("automation.queue_limit", Shape::Integer, "Queued executions; a delivery that would exceed it gets 503.").reloads(),
    key("automation.queue_deadline", Shape::Text, "How long an execution may wait in the queue.").reloads(),
    key("automation.mapping_order", Shape::List, "Who selects the runbook of an alert; the first that speaks decides.").reloads(),
    key("automation.episode_ttl", Shape::Text, "How long an alert that is neither delivered again nor resolved counts as firing.").reloads(),
    in_file("automation.storm", Kind::OrFalse, "So many new episodes are allowed; with more, nothing starts until the rate has been low for the cooldown.").holding(&[("episodes_per_minute", "that matched a runbook, within a minute"), ("cooldown", "how long the rate must be low")]).reloads(),
    in_file("automation.guard.cooldown", Kind::OrFalse, "Between the end of an execution on a target and the next one there.").reloads(),
    in_file("automation.guard.max_runs", Kind::OrFalse, "A list of limits `{ count = 3, within = \"1h\" }`: executions on one target.").reloads(),
    in_file("automation.guard.max_concurrent", Kind::OrFalse, "Executions of one runbook at once.").reloads(),
    in_file("automation.guard.max_targets", Kind::OrFalse, "On how many different targets.").holding(&[("count", "targets"), ("within", "in which time")]).reloads(),
    in_file("automation.guard.flapping", Kind::OrFalse, "How often an alert may fire or resolve.").holding(&[("changes", "changes"), ("within", "in which time")]).reloads(),
    in_file("automation.guard.confirm", Kind::OrFalse, "Ask Alertmanager whether the alert still fires before anything starts.").reloads(),
    key("automation.escalate_to", Shape::List, "Notifiers and policies that are told what automation does not settle.").reloads(),
    key("steps.containment", Shape::Text, "How everything a step starts is found again: by a control group where one can be made, always by one, or by looking at all processes."),
    key("steps.allow_root", Shape::Boolean, "Whether a step may run as root."),
    key("steps.deny_users", Shape::List, "Accounts no step may run as, by name or number."),
    key("steps.no_new_privileges", Shape::Boolean, "Whether nothing that a step starts can gain privileges, by sudo and the like."),
    in_file("steps.limits", Kind::Table, "What the processes of one attempt may use up together, unless the step has limits of its own.").holding(&[("processes", "processes and threads"), ("memory", "memory"), ("cpu", "a share of one processor, or a number of processors"), ("files", "files open in one process")]),
    in_file("mappings", Kind::List, "Which alert starts which runbook, by label; the first match wins.").holding(&[("name", "a name of its own"), ("matchers", "matchers as in Alertmanager, all of which must hold"), ("runbook", "the runbook's id")]).reloads(),
    in_file("schedules", Kind::List, "What runs by the clock.").holding(&[("name", "a name of its own"), ("cron", "minute, hour, day, month and weekday, perhaps a second before them"), ("zone", "whose clocks count, by the IANA table"), ("runbook", "the runbook's id"), ("inputs", "its inputs"), ("catch_up", "how late a missed run is made up for; the time between two runs unless given, 1h at most")]).reloads(),
    in_file("freezes", Kind::List, "When automation starts nothing: once, from and until a time, or weekly.").holding(&[("name", "a name of its own"), ("from", "a time such as `2026-12-24T00:00:00Z`"), ("until", "the first moment that is free"), ("weekly", "`{ days, from, until, zone }` instead"), ("allow_manual", "whether people may start things meanwhile")]).reloads(),
    key("limits.http.per_minute", Shape::Integer, "Requests of one user at one address to the API within a minute.").reloads(),
    key("limits.http.execute_per_minute", Shape::Integer, "Executions started by hand within a minute.").reloads(),
    key("outgoing.allow", Shape::List, "Networks and hosts where requests of runbooks may lead whose host comes from a template."),
    key("alertmanager.urls", Shape::List, "All members of one Alertmanager cluster, with their path prefix; set, they turn automation.guard.confirm on."),
    in_file("alertmanager.auth", Kind::Table, "One credential for all of them.").holding(&[("bearer", "a secret"), ("basic", "`{ user, password }`, the password a secret")]),
    in_file("alertmanager.headers", Kind::Table, "Headers that go with every request: a name, and a text or a secret."),
    key("prometheus.url", Shape::Text, "Answers the queries of runbooks."),
    in_file("notifiers", Kind::Named, "Ways to people. Which keys there are depends on `kind`.").holding(&[("kind", "`slack`, `pagerduty`, `webhook`, `alertmanager` or `email`"), ("url", "a URL. Of slack (a secret), webhook (perhaps a secret) and alertmanager required; of pagerduty its endpoint, where it is another than the public one"), ("routing_key", "a secret; of pagerduty, required"), ("secret", "a secret; of webhook: signs the body. Without it the body is not signed"), ("auth", "of alertmanager as in `[alertmanager]`; of email `{ user, password = { secret = \"NAME\" } }`. Without it nobody signs in"), ("smtp", "of email, required: `host` or `host:port`; without a port 587, with `tls` 465, with `none` 25"), ("tls", "of email: `starttls` (the default), `tls`, or to this machine `none`"), ("from", "of email, required: one address"), ("to", "of email, required: a list of addresses, each of which gets an envelope of its own")]).reloads(),
    in_file("policies", Kind::Named, "Who is told after whom.").holding(&[("levels", "required: 1 to 8 of `{ to = [NOTIFIER, …], after = \"15m\" }`, each with 1 to 8 notifiers; `after` counts from the escalation, is `0s` where it is not set, 7 days at most, and later in each level than in the one before")]).reloads(),
    in_file("breakers", Kind::Named, "Profiles of circuit breakers, for `breaker` in runbooks. Built in: `default`, `aggressive`, `tolerant`.").holding(&[("failure_threshold", "so many failures in a row open it"), ("reset_timeout", "how long it stays open, doubled at each reopening up to 1h"), ("half_open_successes", "so many successes close it")]).reloads(),
    in_file("vault.key", Kind::Secret, "A Fernet key for stored credentials, or a list of which the first encrypts and all decrypt.").reloads(),
    in_file("secrets", Kind::Named, "Secrets by name: one of `file`, `env`, `command`, `store`.").holding(&[("file", "a file without any permission for others"), ("env", "a variable"), ("command", "a program and its arguments, which prints it"), ("timeout", "of the command; 10s unless given"), ("store", "a credential stored over the API")]).reloads(),
];

/// Where the key `name`, or the table it belongs to, stands in the list.
pub(super) fn position(name: &str) -> usize {
    let known = |wanted: &str| KEYS.iter().position(|key| key.name == wanted);
    known(name)
        .or_else(|| known(name.split(['.', '[']).next().unwrap_or(name)))
        .or_else(|| known("auth.roles").filter(|_| name.starts_with("auth.roles.")))
        .unwrap_or(KEYS.len())
}

/// What is wrong with a variable called `name`, if it looks like one of ours: the message and its help.
pub(super) fn complaint(name: &str) -> Option<(String, String)> {
    if !name.strip_prefix("RUNBOOKD_")?.contains("__") {
        return None;
    }
    let variables: Vec<String> = KEYS.iter().map(Key::variable).collect();
    if let Some(at) = variables.iter().position(|known| known == name) {
        let key = &KEYS[at];
        return key.shape.is_none().then(|| {
            let message = "this key cannot be set by a variable".to_owned();
            (
                message,
                format!(
                    "set `{}` in the config file; its secrets may come from {{ env = \"NAME\" }}",
                    key.name
                ),
            )
        });
    }
    let usable: Vec<&str> = variables
        .iter()
        .zip(KEYS)
        .filter(|(_, key)| key.shape.is_some())
        .map(|(variable, _)| variable.as_str())
        .collect();
    let help = nearest(name, &usable).map_or_else(
        || "variables are called RUNBOOKD_<SECTION>__<KEY>; remove it, or correct its name".to_owned(),
        |near| format!("did you mean {near}?"),
    );
    Some(("this variable belongs to no key of the config".to_owned(), help))
}
