//! Who is asking, and may they: the one policy point of the edge.
//!
//! A caller is a person or program ([`Auth::identify`]) with a JWT, an API key or a session, or a sender of webhooks
//! ([`WebhookAuth`]); neither credential opens the other's door. Keys and sessions are looked up by whoever keeps
//! them ([`Stored`]). May import: `model`. Must never: know HTTP status codes, read a clock or a file, or put a
//! credential into an error or a log line.

mod handle;
mod jwks;
mod jwt;
mod limiter;
mod password;
mod permission;
mod webhook;

pub use crate::model::Permission;
pub use handle::{Handle, HandleKind, Minted, NoRandomness, TokenDigest, random};
pub use jwks::{JwksError, KeyServer, KeySet};
pub use jwt::{
    Expected, KeyError, LEEWAY_SECONDS, MAX_TOKEN_BYTES, SIGNUP_PREFIX, Signer, Verifier, VerifyingKey,
    install_crypto,
};
pub use limiter::{Allowances, LoginLimiter, Rule};
pub use password::{
    HashError, MAX_PASSWORD_BYTES, MIN_PASSWORD_CHARS, PasswordError, PasswordHash, check_password,
};
pub use permission::{Permissions, RoleError, Roles};
pub use webhook::{WebhookAuth, WebhookCredential};

use crate::model::Timestamp;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};
use std::fmt;
use std::sync::Arc;

/// Why a caller was refused; the word is a metric label, never shown with details of the credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// No credential was sent.
    Missing,
    /// Not a credential at all: wrong scheme, not three parts, not base64, not JSON, several headers.
    Malformed,
    /// Two kinds of credential at once: which one counts would be a guess.
    Several,
    /// The token is longer than [`MAX_TOKEN_BYTES`].
    TooLong,
    /// The token names an algorithm no configured key has, or asks for critical extensions.
    Algorithm,
    /// No configured key made this signature.
    Signature,
    /// The issuer serves no key of the name the token gives.
    UnknownKey,
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
    /// A session's cookie on a request that a page of another site may have made.
    CrossSite,
    /// Whether the credential is good cannot be found out now.
    Unavailable,
}

impl Failure {
    /// The word in metric labels and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Several => "several",
            Self::TooLong => "too_long",
            Self::Algorithm => "algorithm",
            Self::Signature => "signature",
            Self::UnknownKey => "unknown_key",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Claim => "claim",
            Self::Credential => "credential",
            Self::NotConfigured => "not_configured",
            Self::Forbidden => "forbidden",
            Self::CrossSite => "cross_site",
            Self::Unavailable => "unavailable",
        }
    }

    /// One sentence for the caller. It tells a person what to do and a forger nothing new.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Missing => "a credential is required",
            Self::Malformed => "the credential cannot be read",
            Self::Several => "the request carries two credentials; send one of Authorization and X-API-KEY",
            Self::TooLong => "the token is too long",
            Self::Expired => "the credential has expired",
            Self::NotYetValid => "the token is not valid yet",
            Self::Algorithm | Self::Signature | Self::UnknownKey | Self::Credential => {
                "the credential is not valid"
            }
            Self::Issuer => "the token's issuer is not accepted here",
            Self::Audience => "the token is meant for another audience",
            Self::Claim => "a claim of the token is missing or has the wrong type",
            Self::NotConfigured => "authentication is not configured on this server",
            Self::Forbidden => "the permission for this is missing",
            Self::CrossSite => {
                "with a session's cookie a change must come from this server's own pages, with X-Requested-With: runbookd"
            }
            Self::Unavailable => "credentials cannot be checked just now; try again",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a caller proved who they are with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Via {
    /// Nothing: the server is told to be open.
    Nobody,
    /// A JWT.
    Token,
    /// A name and a password of `--web.config.file`.
    Password,
    /// The API key of this id.
    Key(String),
    /// The session of this id.
    Session(String),
}

/// A caller who is known.
#[derive(Debug, Clone, PartialEq)]
pub struct Principal {
    /// `sub`: 1 to 256 characters, none of them a control character. A key's is its owner's: one person is one
    /// subject, whatever they come with.
    pub subject: String,
    /// Role names as claimed, known or not.
    pub roles: Vec<String>,
    /// What those roles allow together.
    pub permissions: Permissions,
    /// Every claim of the token, for runbooks with `required_claims`; keys and sessions claim `sub` and `roles`.
    pub claims: Map<String, Value>,
    /// What they came with.
    pub via: Via,
}

impl Principal {
    /// Whether nobody had to prove anything.
    pub fn is_anonymous(&self) -> bool {
        self.via == Via::Nobody
    }

    /// The caller of a server that is told to be open: every permission, no claims.
    pub fn anonymous() -> Self {
        Self {
            subject: "anonymous".to_owned(),
            roles: Vec::new(),
            permissions: Permissions::ALL,
            claims: Map::new(),
            via: Via::Nobody,
        }
    }
}

/// Whose a key or a session is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The owner.
    pub subject: String,
    /// What they may claim to be now.
    pub roles: Vec<String>,
}

/// Who keeps keys and sessions.
pub trait Stored: Send + Sync + fmt::Debug {
    /// Whose `handle` is at `now`.
    ///
    /// [`Failure::Credential`] when it is not, or no longer, one of ours; [`Failure::Expired`];
    /// [`Failure::Unavailable`] when that cannot be found out.
    fn holder<'a>(&'a self, handle: &'a Handle, now: Timestamp) -> BoxFuture<'a, Result<Holder, Failure>>;

    /// Remembers that somebody came with `handle` at `now`.
    fn used(&self, handle: &Handle, now: Timestamp);
}

/// How people and programs prove who they are.
#[derive(Debug)]
pub enum People {
    /// Nothing is configured: nobody comes in.
    NotConfigured,
    /// Everybody is `anonymous` with all permissions. Only for a loopback address; who builds this decides.
    Open,
    /// By what is configured.
    Known {
        /// JWTs.
        tokens: Option<Verifier>,
        /// API keys and sessions.
        stored: Option<Arc<dyn Stored>>,
    },
}

/// What a request carries to prove who sent it.
#[derive(Clone, Copy, Default)]
pub struct Presented<'r> {
    /// `Authorization`.
    pub authorization: Option<&'r [u8]>,
    /// `X-API-KEY`.
    pub api_key: Option<&'r [u8]>,
    /// The session's cookie. Nobody sends it on purpose, so it only counts where nothing else is sent.
    pub cookie: Option<&'r str>,
    /// Whether it was good before and is looked at again, which is no use of it.
    pub again: bool,
}

impl fmt::Debug for Presented<'_> {
    /// Which ones there are, never what they say.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presented")
            .field("authorization", &self.authorization.is_some())
            .field("api_key", &self.api_key.is_some())
            .field("cookie", &self.cookie.is_some())
            .finish()
    }
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
    /// The origin of our own pages, where a proxy hides it from us, such as `https://runbookd.example.org`.
    pub origin: Option<String>,
}

impl Auth {
    /// Who sent this, at `now`.
    ///
    /// # Errors
    /// The [`Failure`]; never [`Failure::Forbidden`], which is about a permission.
    pub async fn identify(&self, presented: Presented<'_>, now: Timestamp) -> Result<Principal, Failure> {
        let (tokens, stored) = match &self.people {
            People::NotConfigured => return Err(Failure::NotConfigured),
            People::Open => return Ok(Principal::anonymous()),
            People::Known { tokens, stored } => (tokens, stored),
        };
        let handle = match (presented.authorization, presented.api_key, presented.cookie) {
            (Some(_), Some(_), _) => return Err(Failure::Several),
            (None, Some(key), _) => {
                let key = std::str::from_utf8(key).map_err(|_| Failure::Malformed)?;
                Handle::parse(key.trim()).filter(|handle| handle.kind == HandleKind::Key)
            }
            (Some(_), None, _) => {
                let (scheme, token) = credential(presented.authorization)?;
                if !scheme.eq_ignore_ascii_case("bearer") {
                    return Err(Failure::Malformed);
                }
                match Handle::parse(token) {
                    Some(handle) => Some(handle).filter(|handle| handle.kind == HandleKind::Session),
                    None => {
                        let verifier = tokens.as_ref().ok_or(Failure::Credential)?;
                        return verifier.verify_or_look(token, &self.roles, now).await;
                    }
                }
            }
            (None, None, Some(cookie)) => {
                let handle = Handle::parse(cookie).filter(|handle| handle.kind == HandleKind::Session);
                Some(handle.ok_or(Failure::Credential)?)
            }
            (None, None, None) => return Err(Failure::Missing),
        };
        let handle = handle.ok_or(Failure::Malformed)?;
        let Some(stored) = stored else { return Err(Failure::Credential) };
        let Holder { subject, roles } = stored.holder(&handle, now).await?;
        if !presented.again {
            stored.used(&handle, now);
        }
        let claims = json!({ "sub": subject, "roles": roles });
        Ok(Principal {
            permissions: self.roles.permissions(&roles),
            claims: claims.as_object().cloned().unwrap_or_default(),
            via: match handle.kind {
                HandleKind::Key => Via::Key(handle.id),
                HandleKind::Session => Via::Session(handle.id),
            },
            subject,
            roles,
        })
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
    use std::sync::atomic::{AtomicU32, Ordering};

    const ID: &str = "01JC0000000000000000000000";

    /// Knows one key and one session, both ada's, and how often they were used.
    #[derive(Debug, Default)]
    struct Drawer(AtomicU32);

    impl Stored for Drawer {
        fn holder<'a>(&'a self, handle: &'a Handle, _: Timestamp) -> BoxFuture<'a, Result<Holder, Failure>> {
            let known = handle.digest.is(&minted(handle.kind).digest.encoded());
            let holder = Holder { subject: "ada".into(), roles: vec!["viewer".into()] };
            Box::pin(async move { if known { Ok(holder) } else { Err(Failure::Credential) } })
        }

        fn used(&self, _: &Handle, _: Timestamp) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn minted(kind: HandleKind) -> Minted {
        Minted::new(kind, ID, [7; 32])
    }

    fn auth(people: People) -> Auth {
        Auth { people, roles: Roles::default(), webhook: WebhookAuth::default(), origin: None }
    }

    async fn identify(auth: &Auth, presented: Presented<'_>) -> Result<Principal, Failure> {
        auth.identify(presented, Timestamp::UNIX_EPOCH).await
    }

    #[tokio::test]
    async fn nobody_comes_in_where_nothing_is_configured() {
        let auth = auth(People::NotConfigured);
        for header in [None, Some(&b"Bearer abc"[..]), Some(b"Basic YTpi")] {
            let presented = Presented { authorization: header, ..Presented::default() };
            assert_eq!(identify(&auth, presented).await.unwrap_err(), Failure::NotConfigured);
        }
        assert_eq!(auth.webhook.check(None).unwrap_err(), Failure::NotConfigured);
    }

    #[tokio::test]
    async fn an_open_server_knows_only_anonymous() {
        let who = identify(&auth(People::Open), Presented::default()).await.unwrap();
        assert_eq!((who.subject.as_str(), who.permissions), ("anonymous", Permissions::ALL));
        assert!(who.is_anonymous());
    }

    #[tokio::test]
    async fn looking_again_is_no_use_of_a_session() {
        let drawer = Arc::new(Drawer::default());
        let auth = auth(People::Known { tokens: None, stored: Some(Arc::clone(&drawer) as _) });
        let session = minted(HandleKind::Session).text;
        let presented = Presented { cookie: Some(session.expose()), ..Presented::default() };
        for (again, uses) in [(false, 1), (true, 1), (false, 2)] {
            assert_eq!(identify(&auth, Presented { again, ..presented }).await.unwrap().subject, "ada");
            assert_eq!(drawer.0.load(Ordering::Relaxed), uses);
        }
    }

    #[tokio::test]
    async fn each_credential_has_one_place_where_it_counts() {
        let auth = auth(People::Known { tokens: None, stored: Some(Arc::new(Drawer::default())) });
        let [key, session] = [HandleKind::Key, HandleKind::Session].map(|kind| minted(kind).text);
        let (key, session) = (key.expose(), session.expose());
        let bearer = |text: &str| format!("Bearer {text}").into_bytes();
        let (bearer_key, bearer_session, jwt) = (bearer(key), bearer(session), bearer("a.b.c"));
        let other = Minted::new(HandleKind::Key, ID, [8; 32]).text;
        let none = Presented::default();
        let (a, k, c) = (
            |text| Presented { authorization: Some(text), ..none },
            |text| Presented { api_key: Some(text), ..none },
            |text| Presented { cookie: Some(text), ..none },
        );
        for (presented, via) in [
            (k(key.as_bytes()), Via::Key(ID.into())),
            (a(&bearer_session), Via::Session(ID.into())),
            (c(session), Via::Session(ID.into())),
            // Whoever sends a credential on purpose means it, and not the cookie of the browser.
            (Presented { cookie: Some("rubbish"), ..k(key.as_bytes()) }, Via::Key(ID.into())),
        ] {
            let who = identify(&auth, presented).await.unwrap();
            assert_eq!((who.subject.as_str(), &who.via), ("ada", &via));
            assert_eq!(who.permissions, Permissions::of(&[Permission::Read]));
            assert_eq!(who.claims, *json!({"sub": "ada", "roles": ["viewer"]}).as_object().unwrap());
        }
        for (presented, failure) in [
            (none, Failure::Missing),
            (a(&bearer_key), Failure::Malformed),
            (k(session.as_bytes()), Failure::Malformed),
            (k(b"a.b.c"), Failure::Malformed),
            (k(b""), Failure::Malformed),
            (k(b"\xff"), Failure::Malformed),
            (k(other.expose().as_bytes()), Failure::Credential),
            (c(key), Failure::Credential),
            (c(""), Failure::Credential),
            (a(&jwt), Failure::Credential),
            (Presented { cookie: Some(session), ..a(b"Basic YTpi") }, Failure::Malformed),
            (Presented { cookie: Some(session), ..k(b"rbk_") }, Failure::Malformed),
            (Presented { api_key: Some(key.as_bytes()), ..a(&bearer_session) }, Failure::Several),
        ] {
            assert_eq!(identify(&auth, presented).await.unwrap_err(), failure, "{presented:?}");
        }
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
