//! Credentials this server makes itself: API keys and sessions, random texts of which only a digest is kept.
//!
//! `rbk_<id>_<secret>` is a key, `rbs_<id>_<secret>` a session: scanners of leaked secrets know the prefix, the id
//! finds the record at once, and 256 random bits need no slow hash. May import: `model`. Must never: show a secret.

use crate::model::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use std::fmt;
use subtle::ConstantTimeEq as _;

/// Bytes of a secret.
const SECRET_BYTES: usize = 32;
/// Characters of an id: a ULID.
const ID_CHARS: usize = 26;

/// No randomness could be had from the system.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random bytes: {0}")]
pub struct NoRandomness(String);

/// Bytes nobody can foresee.
///
/// # Errors
/// [`NoRandomness`].
pub fn random<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|cause| NoRandomness(cause.to_string()))?;
    Ok(bytes)
}

/// What a text of ours opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HandleKind {
    /// An API key.
    Key,
    /// A session of somebody who signed in.
    Session,
}

impl HandleKind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Key => "rbk_",
            Self::Session => "rbs_",
        }
    }
}

/// The SHA-256 of a whole credential.
#[derive(Clone, Copy)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    fn of(text: &str) -> Self {
        Self(Sha256::digest(text).into())
    }

    /// As it is stored.
    pub fn encoded(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// Whether it is the one that was stored, in constant time. What cannot be read is none.
    pub fn is(&self, stored: &str) -> bool {
        let stored = URL_SAFE_NO_PAD.decode(stored).unwrap_or_default();
        bool::from(self.0[..].ct_eq(&stored))
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest")
    }
}

/// A credential of ours as a caller sent it: where its record is, and what to compare.
#[derive(Debug, Clone)]
pub struct Handle {
    /// Key or session.
    pub kind: HandleKind,
    /// Its record.
    pub id: String,
    /// Of the whole text.
    pub digest: TokenDigest,
}

impl Handle {
    /// Reads one; `None` for anything that was not made by [`Minted::new`].
    pub fn parse(text: &str) -> Option<Self> {
        let kinds = [HandleKind::Key, HandleKind::Session];
        let (kind, rest) =
            kinds.into_iter().find_map(|kind| Some((kind, text.strip_prefix(kind.prefix())?)))?;
        let (id, secret) = rest.split_at_checked(ID_CHARS)?;
        let secret = URL_SAFE_NO_PAD.decode(secret.strip_prefix('_')?).ok()?;
        let fits = secret.len() == SECRET_BYTES && id.bytes().all(|b| b.is_ascii_alphanumeric());
        fits.then(|| Self { kind, id: id.to_owned(), digest: TokenDigest::of(text) })
    }
}

/// A new credential: the text is shown once, the digest is kept.
#[derive(Debug)]
pub struct Minted {
    /// For its holder.
    pub text: Secret,
    /// For the store.
    pub digest: TokenDigest,
}

impl Minted {
    /// The credential with this id, a ULID's text.
    pub fn new(kind: HandleKind, id: &str, secret: [u8; SECRET_BYTES]) -> Self {
        let text = format!("{}{id}_{}", kind.prefix(), URL_SAFE_NO_PAD.encode(secret));
        Self { digest: TokenDigest::of(&text), text: Secret::new(&text) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01JC0000000000000000000000";

    #[test]
    fn what_was_minted_is_read_back_and_compared_as_a_whole() {
        for kind in [HandleKind::Key, HandleKind::Session] {
            let minted = Minted::new(kind, ID, [7; 32]);
            let handle = Handle::parse(minted.text.expose()).unwrap();
            assert_eq!((handle.kind, handle.id.as_str()), (kind, ID));
            assert!(handle.digest.is(&minted.digest.encoded()));
            assert!(!handle.digest.is(&Minted::new(kind, ID, [8; 32]).digest.encoded()));
        }
        // The same secret in a session's clothes is another credential.
        let [key, session] = [HandleKind::Key, HandleKind::Session]
            .map(|kind| Minted::new(kind, ID, [7; 32]).digest.encoded());
        assert_ne!(key, session);
    }

    #[test]
    fn anything_else_is_no_credential_of_ours() {
        let good = Minted::new(HandleKind::Key, ID, [7; 32]);
        let good = good.text.expose();
        for bad in [
            "",
            "rbk_",
            "rbk_x",
            &good[1..],
            &good[..good.len() - 1],
            &format!("{good}A"),
            &good.replace("rbk_", "rbx_"),
            &good.replace("rbk_", "RBK_"),
            &good.replace("_", "-"),
            &good.replace("01JC", "01J/"),
            &good.replace("01JC", "01Jü"),
        ] {
            assert!(Handle::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_damaged_digest_fits_nothing_and_debug_shows_nothing() {
        let minted = Minted::new(HandleKind::Key, ID, [7; 32]);
        for stored in ["", "AAAA", "!", &"A".repeat(43)] {
            assert!(!minted.digest.is(stored), "{stored}");
        }
        let shown = format!("{minted:?} {:?}", Handle::parse(minted.text.expose()));
        assert!(!shown.contains("BwcHBwc") && !shown.contains(&minted.digest.encoded()), "{shown}");
    }

    #[test]
    fn randomness_does_not_repeat() {
        assert_ne!(random::<32>().unwrap(), random::<32>().unwrap());
    }
}
