//! `[outgoing]`: where a templated authority may lead.
//!
//! What an entry means is known to the room that makes requests; here only its outer shape is checked, and
//! `Config::check_outgoing` places what that room says. May import: `document`. Must never: open a connection.

use super::source::{Section, Sources};
use crate::document::{Place, Severity, Table};

/// `[outgoing]` after checking.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// What is allowed, in the order of the file.
    pub allow: Vec<Allowed>,
}

/// One entry of `allow`.
#[derive(Debug, Clone)]
pub struct Allowed {
    /// A network, or a host with an optional wildcard and port: not empty, without scheme and path.
    pub text: String,
    place: Place,
}

impl Allowed {
    /// A problem with this entry.
    pub(super) fn problem(&self, why: &str) -> crate::document::Problem {
        self.place.problem(Severity::Error, why, HELP)
    }
}

const HELP: &str = "write a network or a host, such as \"10.0.0.0/8\" or \"*.svc.cluster.local:8080\"";

impl Outgoing {
    pub(super) fn read<'d>(sources: &Sources<'d>, root: &mut Table<'d>) -> Self {
        let mut section = Section::open(sources, root, "outgoing");
        let allow = section
            .list(
                "allow",
                Vec::new,
                |entry: &Allowed| format!("{:?}", entry.text),
                |value| {
                    let text = value.parsed(HELP, check_entry)?;
                    Some(Allowed { text, place: value.place() })
                },
            )
            .value;
        section.finish();
        Self { allow }
    }
}

fn check_entry(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("the entry is empty".to_owned());
    }
    if text.contains("://") {
        return Err(format!("{text:?} has a scheme"));
    }
    if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '@') {
        return Err(format!("{text:?} is not a network or a host"));
    }
    Ok(text.to_owned())
}
