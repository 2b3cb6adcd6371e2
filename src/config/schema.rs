//! Every key of the config file: its name, what a variable of it is read as, its flag.
//!
//! The order here is the order of `GET /api/config`. A test holds this list, the sections that read it and
//! the shipped `config/runbookd.toml` together. May import: `document`. Must never: hold a default or a check;
//! they live in the section's file.

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
}

impl Key {
    /// The name of its variable.
    pub(super) fn variable(&self) -> String {
        format!("RUNBOOKD_{}", self.name.to_ascii_uppercase().replace('.', "__"))
    }
}

const fn key(name: &'static str, shape: Shape) -> Key {
    Key { name, shape: Some(shape), flag: None }
}

const fn flag(name: &'static str, shape: Shape, flag: &'static str) -> Key {
    Key { name, shape: Some(shape), flag: Some(flag) }
}

const fn in_file(name: &'static str) -> Key {
    Key { name, shape: None, flag: None }
}

pub(super) const KEYS: &[Key] = &[
    flag("server.listen", Shape::Text, "--web.listen-address"),
    flag("server.external_url", Shape::Text, "--web.external-url"),
    in_file("server.tls"),
    key("server.trusted_proxies", Shape::List),
    key("server.max_body", Shape::Text),
    key("server.max_connections", Shape::Integer),
    key("server.max_connections_per_peer", Shape::Integer),
    key("server.drain_timeout", Shape::Text),
    key("store.kind", Shape::Text),
    flag("store.path", Shape::Text, "--storage.path"),
    key("store.retention", Shape::Text),
    key("store.audit_retention", Shape::Text),
    in_file("store.backup"),
    flag("runbooks.dir", Shape::Text, "--runbooks.dir"),
    key("runbooks.watch", Shape::Boolean),
    in_file("webhook.bearer"),
    in_file("webhook.basic"),
    key("webhook.client_cert_sans", Shape::List),
    key("webhook.allow_unauthenticated", Shape::Boolean),
    in_file("auth.jwt.secret"),
    in_file("auth.jwt.public_key_file"),
    in_file("auth.jwt.jwks_url"),
    in_file("auth.jwt.jwks_refresh"),
    in_file("auth.jwt.jwks_max_age"),
    in_file("auth.jwt.issuer"),
    in_file("auth.jwt.audience"),
    key("auth.roles_claim", Shape::Text),
    key("auth.users_file", Shape::Text),
    key("auth.signup", Shape::Boolean),
    key("auth.session_idle", Shape::Text),
    key("auth.session_max", Shape::Text),
    key("auth.dev_login", Shape::Boolean),
    in_file("auth.roles"),
    key("automation.max_running", Shape::Integer),
    key("automation.queue_limit", Shape::Integer),
    key("automation.queue_deadline", Shape::Text),
    key("automation.mapping_order", Shape::List),
    key("automation.episode_ttl", Shape::Text),
    in_file("automation.storm"),
    in_file("automation.guard.cooldown"),
    in_file("automation.guard.max_runs"),
    in_file("automation.guard.max_concurrent"),
    in_file("automation.guard.max_targets"),
    in_file("automation.guard.flapping"),
    in_file("automation.guard.confirm"),
    key("automation.escalate_to", Shape::List),
    key("steps.containment", Shape::Text),
    key("steps.allow_root", Shape::Boolean),
    key("steps.deny_users", Shape::List),
    key("steps.no_new_privileges", Shape::Boolean),
    in_file("steps.limits"),
    in_file("mappings"),
    in_file("schedules"),
    in_file("freezes"),
    key("limits.http.per_minute", Shape::Integer),
    key("limits.http.execute_per_minute", Shape::Integer),
    key("outgoing.allow", Shape::List),
    key("alertmanager.urls", Shape::List),
    in_file("alertmanager.auth"),
    in_file("alertmanager.headers"),
    key("prometheus.url", Shape::Text),
    in_file("notifiers"),
    in_file("policies"),
    in_file("breakers"),
    in_file("vault.key"),
    in_file("secrets"),
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
