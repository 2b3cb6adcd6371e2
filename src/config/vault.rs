//! `[vault]`: what stored credentials are encrypted with.
//!
//! May import: `document`, `secret`. Must never: store anything.

use super::secrets::{self, Named};
use super::source::{Section, Sources, show_list};
use super::webhook::one_or_more;
use crate::document::Table;
use crate::model::Secret;
use crate::secret::Vault;

/// Reads `[vault]`. The first key encrypts, all decrypt: a new one is put before the old one.
pub(super) fn read<'d>(sources: &Sources<'d>, root: &mut Table<'d>, named: &Named) -> Vault {
    let mut section = Section::open(sources, root, "vault");
    let keys = one_or_more(section.take("key"), |value| {
        let (place, path) = (value.span(), value.path().to_owned());
        let key = secrets::read(sources, value, Some(named))?;
        if let Err(error) = Vault::new(std::slice::from_ref(&key)) {
            let help = "make one: head -c 32 /dev/urandom | base64 | tr +/ -_";
            sources.problems.error(place, &path, format!("the key cannot be used: {error}"), help);
            return None;
        }
        Some(key)
    });
    section.item("key", show_list(keys.iter().map(|_| "secret".to_owned())), !keys.is_empty());
    section.finish();
    let keys: Vec<Secret> = keys.into_iter().flatten().collect();
    // Each was tried above.
    Vault::new(&keys).unwrap_or_default()
}
