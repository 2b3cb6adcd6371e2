//! `[webhook]`: who may deliver alerts. These credentials open the webhook and nothing else.
//!
//! May import: `model`, `document`. Must never: print a credential.

use super::secrets::{self, Named};
use super::source::{Section, Setting, Sources, not_empty, show_list};
use crate::document::{Place, Severity, Table, Value};
use crate::model::Secret;

/// `[webhook]` after checking; any one credential suffices.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// Accepted bearer tokens; several while one is being replaced.
    pub bearer: Vec<Secret>,
    /// Accepted users with their passwords.
    pub basic: Vec<Basic>,
    /// Subject alternative names of client certificates that may deliver.
    pub client_cert_sans: Vec<String>,
    /// Where they are listed.
    pub client_cert_place: Place,
    /// Whether a delivery needs no credential; only ever true on a loopback address.
    pub allow_unauthenticated: bool,
}

/// A user of basic authentication.
#[derive(Debug, Clone)]
pub struct Basic {
    /// Not empty, without a colon.
    pub user: String,
    /// The password.
    pub password: Secret,
}

/// What the checks across sections need besides.
pub(super) struct Given {
    /// Whether the file names a credential, even one that cannot be read.
    pub(super) credential: bool,
    pub(super) open: Setting<bool>,
    /// The section, or the start of the file.
    pub(super) place: Place,
}

impl Webhook {
    pub(super) fn read<'d>(sources: &Sources<'d>, root: &mut Table<'d>, named: &Named) -> (Self, Given) {
        let mut section = Section::open(sources, root, "webhook");
        let bearer = one_or_more(section.take("bearer"), |value| secrets::read(sources, value, Some(named)));
        let basic = one_or_more(section.take("basic"), |value| read_basic(sources, value, named));
        section.item("bearer", show_list(bearer.iter().map(|_| "secret".to_owned())), !bearer.is_empty());
        let shown = basic.iter().map(|basic| {
            let user = basic.as_ref().map_or("", |basic| &basic.user);
            format!("{{ user = {user:?}, password = secret }}")
        });
        section.item("basic", show_list(shown), !basic.is_empty());
        let sans = section.list(
            "client_cert_sans",
            Vec::new,
            |name| format!("{name:?}"),
            |value| {
                value.parsed("write a name of a certificate, such as \"alertmanager.example\"", not_empty)
            },
        );
        let open = section.boolean("allow_unauthenticated", false);
        let credential = !bearer.is_empty() || !basic.is_empty() || !sans.value.is_empty();
        if credential && open.value {
            let message = "the webhook is open to all: its credentials are not asked for";
            let help = "remove allow_unauthenticated, or the credentials";
            sources.problems.add(open.place.problem(Severity::Warning, message, help));
        }
        let place = section.place();
        section.finish();
        let webhook = Self {
            bearer: bearer.into_iter().flatten().collect(),
            basic: basic.into_iter().flatten().collect(),
            client_cert_sans: sans.value,
            client_cert_place: sans.place,
            allow_unauthenticated: open.value,
        };
        (webhook, Given { credential, open, place })
    }
}

/// The elements of a list, or the one value that stands for a list; `None` for those that cannot be read.
pub(super) fn one_or_more<'d, T>(
    value: Option<Value<'d>>,
    read: impl Fn(Value<'d>) -> Option<T>,
) -> Vec<Option<T>> {
    let values = match value {
        Some(list) if list.is_array() => list.array().unwrap_or_default(),
        one => one.into_iter().collect(),
    };
    values.into_iter().map(read).collect()
}

/// Reads `{ user = …, password = { … } }`.
pub(super) fn read_basic<'d>(sources: &Sources<'d>, value: Value<'d>, named: &Named) -> Option<Basic> {
    if !value.is_table() {
        // Perhaps "user:password", so it is not shown again.
        sources.mask(value.span());
    }
    let mut table = value.table()?;
    let user = table.require("user", "write user = \"alertmanager\"");
    let password = table.require("password", "write password = { env = \"VARIABLE\" }");
    let user = user.and_then(|value| value.parsed("write a name without a colon", check_user));
    let password = password.and_then(|value| secrets::read(sources, value, Some(named)));
    sources.finish_hidden(table);
    Some(Basic { user: user?, password: password? })
}

fn check_user(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(':') || text.chars().any(char::is_control) {
        return Err(format!("{text:?} cannot be a user of basic authentication"));
    }
    Ok(text.to_owned())
}
