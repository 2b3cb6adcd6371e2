//! `[alertmanager]`: the Alertmanagers of one cluster, for silences.
//!
//! May import: `model`, `document`. Must never: ask them anything, or print a credential.

use super::secrets::{self, Named};
use super::server::server_url;
use super::source::{Section, Source, Sources};
use super::webhook::{Basic, read_basic};
use crate::document::{Table, Value};
use crate::model::Secret;

/// `[alertmanager]` after checking.
#[derive(Debug, Clone)]
pub struct Alertmanager {
    /// The members of the cluster, at least one: http or https, with a path prefix if it has one, without a final
    /// slash: `<url>/api/v2/silences` is valid.
    pub urls: Vec<String>,
    /// What proves who we are.
    pub auth: Option<AlertmanagerAuth>,
    /// Headers that go with every request, such as a tenant's.
    pub headers: Vec<(String, String)>,
}

/// A credential for Alertmanager.
#[derive(Debug, Clone)]
pub enum AlertmanagerAuth {
    /// A bearer token.
    Bearer(Secret),
    /// A user with a password.
    Basic(Basic),
}

impl Alertmanager {
    /// Reads the section; `None` when no URL is given, then there is nobody to ask.
    pub(super) fn read<'d>(sources: &Sources<'d>, root: &mut Table<'d>, named: &Named) -> Option<Self> {
        let mut section = Section::open(sources, root, "alertmanager");
        // A value of the environment has no place in the file to be masked, so both are read as if from there.
        let read = |value: Value<'d>| server_url(sources, &value, Source::File);
        let urls = section.list("urls", Vec::new, |url| format!("{url:?}"), read);
        let given = section.take("auth");
        let shown = if given.is_some() { "secret" } else { "" };
        section.item("auth", shown, given.is_some());
        let auth = given.and_then(|value| read_auth(sources, value, named));
        let given = section.take("headers");
        let is_set = given.is_some();
        let headers = given.map(|value| read_headers(sources, value)).unwrap_or_default();
        // Their values may be as good as a credential.
        let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
        section.item("headers", names.join(", "), is_set);
        section.finish();
        (!urls.value.is_empty()).then_some(Self { urls: urls.value, auth, headers })
    }
}

pub(super) fn read_auth<'d>(
    sources: &Sources<'d>,
    value: Value<'d>,
    named: &Named,
) -> Option<AlertmanagerAuth> {
    const HELP: &str = "write auth = { bearer = { file = \"/path\" } } or auth = { basic = { user = \"…\", password = { … } } }";
    if !value.is_table() {
        // Perhaps the token itself.
        sources.mask(value.span());
    }
    let mut table = value.table()?;
    let bearer = table.take("bearer");
    let basic = table.take("basic");
    let has_others = !table.unasked().is_empty();
    let auth = match (bearer, basic) {
        (Some(bearer), None) => secrets::read(sources, bearer, Some(named)).map(AlertmanagerAuth::Bearer),
        (None, Some(basic)) => read_basic(sources, basic, named).map(AlertmanagerAuth::Basic),
        (None, None) if has_others => None,
        (None, None) => {
            table.error("it is not said what the credential is", HELP);
            None
        }
        (Some(_), Some(_)) => {
            table.error("a request carries one credential only", HELP);
            None
        }
    };
    sources.finish_hidden(table);
    auth
}

fn read_headers<'d>(sources: &Sources<'d>, value: Value<'d>) -> Vec<(String, String)> {
    let Some(mut table) = value.table() else { return Vec::new() };
    let mut headers: Vec<(String, String)> = Vec::new();
    for (name, value) in table.take_all() {
        let refuse = |message: String, help: &str| {
            sources.problems.error(name.span.clone(), value.path(), message, help);
        };
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.value.is_empty() || !name.value.bytes().all(token) {
            refuse(format!("{:?} is not a header's name", name.value), "use letters, digits and -");
        } else if name.value.eq_ignore_ascii_case("authorization") {
            sources.mask(value.span());
            refuse(
                "a credential is not a plain header".to_owned(),
                "use auth, whose secrets are not written here",
            );
        } else if headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(&name.value)) {
            refuse(format!("the header {:?} is given twice", name.value), "remove one");
        }
        let check = |text: &str| {
            let fits = text.bytes().all(|b| (b' '..=b'~').contains(&b));
            if fits { Ok(text.to_owned()) } else { Err("a header's value is plain ASCII in one line") }
        };
        headers.extend(
            value.parsed("write it without line ends and accents", check).map(|text| (name.value, text)),
        );
    }
    headers
}
