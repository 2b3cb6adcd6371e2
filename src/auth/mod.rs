//! Who is asking, and may they: the one policy point of the edge.
//!
//! A caller is either a person or program with a JWT ([`Auth::principal`]) or a sender of webhooks
//! ([`WebhookAuth`]); neither credential opens the other's door. May import: `model`. Must never: know HTTP
//! status codes, read a clock or a file, or put a credential into an error or a log line.

mod jwt;
mod permission;
mod webhook;

pub use crate::model::Permission;
pub use jwt::{
    Expected, KeyError, LEEWAY_SECONDS, MAX_TOKEN_BYTES, Signer, Verifier, VerifyingKey, install_crypto,
};
pub use permission::{Permissions, RoleError, Roles};
pub use webhook::{WebhookAuth, WebhookCredential};

use crate::model::Timestamp;
use serde_json::{Map, Value};
use std::fmt;

/// Why a caller was refused; the word is a metric label, never shown with details of the credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// No credential was sent.
    Missing,
    /// Not a credential at all: wrong scheme, not three parts, not base64, not JSON, several headers.
    Malformed,
    /// The token is longer than [`MAX_TOKEN_BYTES`].
    TooLong,
    /// The token names an algorithm no configured key has, or asks for critical extensions.
    Algorithm,
    /// No configured key made this signature.
    Signature,
    /// `exp` lies in the past.
    Expired,
    /// `nbf` lies in the future.
    NotYetValid,
    /// `iss` is not the configured issuer.
    Issuer,
    /// `aud` does not contain the configured audience.
    Audience,
    /// A claim is missing or has the wrong type.
    Claim,
    /// A well-formed credential that is not one of the configured ones.
    Credential,
    /// Nothing is configured that could open this door.
    NotConfigured,
    /// Known, but without the permission.
    Forbidden,
}

impl Failure {
    /// The word in metric labels and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::TooLong => "too_long",
            Self::Algorithm => "algorithm",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Claim => "claim",
            Self::Credential => "credential",
            Self::NotConfigured => "not_configured",
            Self::Forbidden => "forbidden",
        }
    }

    /// One sentence for the caller. It tells a person what to do and a forger nothing new.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Missing => "a credential is required",
            Self::Malformed => "the credential cannot be read",
            Self::TooLong => "the token is too long",
            Self::Expired => "the token has expired",
            Self::NotYetValid => "the token is not valid yet",
            Self::Algorithm | Self::Signature | Self::Credential => "the credential is not valid",
            Self::Issuer => "the token's issuer is not accepted here",
            Self::Audience => "the token is meant for another audience",
            Self::Claim => "a claim of the token is missing or has the wrong type",
            Self::NotConfigured => "authentication is not configured on this server",
            Self::Forbidden => "the permission for this is missing",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A caller who is known.
#[derive(Debug, Clone, PartialEq)]
pub struct Principal {
    /// `sub`: 1 to 256 characters, none of them a control character.
    pub subject: String,
    /// Role names as claimed, known or not.
    pub roles: Vec<String>,
    /// What those roles allow together.
    pub permissions: Permissions,
    /// Every claim of the token, for runbooks with `required_claims`.
    pub claims: Map<String, Value>,
}

impl Principal {
    /// Whether nobody had to prove anything. A token always has claims, so none can pretend to be this.
    pub fn is_anonymous(&self) -> bool {
        self.claims.is_empty()
    }

    /// The caller of a server that is told to be open: every permission, no claims.
    pub fn anonymous() -> Self {
        Self {
            subject: "anonymous".to_owned(),
            roles: Vec::new(),
            permissions: Permissions::ALL,
            claims: Map::new(),
        }
    }
}

/// How people and programs prove who they are.
#[derive(Debug)]
pub enum People {
    /// Nothing is configured: nobody comes in.
    NotConfigured,
    /// Everybody is `anonymous` with all permissions. Only for a loopback address; who builds this decides.
    Open,
    /// By JWT.
    Jwt(Verifier),
}

/// The checked credentials of one configuration; replaced as a whole on reload.
#[derive(Debug)]
pub struct Auth {
    /// People and programs.
    pub people: People,
    /// What a role allows.
    pub roles: Roles,
    /// Senders of webhooks.
    pub webhook: WebhookAuth,
}

impl Auth {
    /// Who sent this `Authorization` header, at `now`.
    ///
    /// # Errors
    /// The [`Failure`]; never [`Failure::Forbidden`], which is about a permission.
    pub fn principal(&self, authorization: Option<&[u8]>, now: Timestamp) -> Result<Principal, Failure> {
        let verifier = match &self.people {
            People::NotConfigured => return Err(Failure::NotConfigured),
            People::Open => return Ok(Principal::anonymous()),
            People::Jwt(verifier) => verifier,
        };
        let (scheme, token) = credential(authorization)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Failure::Malformed);
        }
        verifier.verify(token, &self.roles, now)
    }
}

/// Splits an `Authorization` value into scheme and credential.
fn credential(authorization: Option<&[u8]>) -> Result<(&str, &str), Failure> {
    let value = authorization.ok_or(Failure::Missing)?;
    let value = std::str::from_utf8(value).map_err(|_| Failure::Malformed)?;
    let (scheme, rest) = value.trim().split_once(' ').ok_or(Failure::Malformed)?;
    let rest = rest.trim_start();
    if scheme.is_empty() || rest.is_empty() || !rest.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Failure::Malformed);
    }
    Ok((scheme, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_comes_in_where_nothing_is_configured() {
        let auth =
            Auth { people: People::NotConfigured, roles: Roles::default(), webhook: WebhookAuth::default() };
        for header in [None, Some(&b"Bearer abc"[..]), Some(b"Basic YTpi")] {
            assert_eq!(auth.principal(header, Timestamp::UNIX_EPOCH).unwrap_err(), Failure::NotConfigured);
        }
        assert_eq!(auth.webhook.check(None).unwrap_err(), Failure::NotConfigured);
    }

    #[test]
    fn an_open_server_knows_only_anonymous() {
        let auth = Auth { people: People::Open, roles: Roles::default(), webhook: WebhookAuth::default() };
        let who = auth.principal(None, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!((who.subject.as_str(), who.permissions), ("anonymous", Permissions::ALL));
    }

    #[test]
    fn an_authorization_header_is_split_once_and_strictly() {
        assert_eq!(credential(Some(b"Bearer abc")), Ok(("Bearer", "abc")));
        assert_eq!(credential(Some(b"bearer   abc")), Ok(("bearer", "abc")));
        assert_eq!(credential(None), Err(Failure::Missing));
        for bad in [&b""[..], b"Bearer", b"Bearer ", b"Bearer a b", b"Bearer a\x00b", b"\xff\xfe x", b" "] {
            assert_eq!(credential(Some(bad)), Err(Failure::Malformed), "{bad:?}");
        }
    }
}
