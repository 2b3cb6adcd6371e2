//! `[prometheus]`: the Prometheus that answers queries.
//!
//! May import: `document`. Must never: ask it anything.

use super::server::server_url;
use super::source::{Section, Sources};
use crate::document::Table;

/// `[prometheus]` after checking.
#[derive(Debug, Clone)]
pub struct Prometheus {
    /// http or https, with a path prefix if it has one, without a final slash: `<url>/api/v1/query` is valid.
    pub url: String,
}

impl Prometheus {
    /// Reads the section; `None` when no URL is given, then queries cannot be asked.
    pub(super) fn read<'d>(sources: &Sources<'d>, root: &mut Table<'d>) -> Option<Self> {
        let mut section = Section::open(sources, root, "prometheus");
        let url = section.setting(
            "url",
            || None,
            |url| Option::clone(url).unwrap_or_default(),
            |value, source| server_url(sources, &value, source).map(Some),
        );
        section.finish();
        url.value.map(|url| Self { url })
    }
}
