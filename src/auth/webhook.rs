//! Who may deliver webhooks: bearer tokens, user and password pairs, or anybody on a loopback address.
//!
//! Credentials are kept and compared as SHA-256 digests, all of them each time, in constant time: neither
//! length nor position of a match shows in the duration. May import: `model`. Must never: accept a JWT.

use super::{Failure, credential};
use crate::model::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use std::fmt;
use subtle::{Choice, ConstantTimeEq as _};

/// One credential a sender may use.
#[derive(Debug, Clone)]
pub enum WebhookCredential {
    /// `Authorization: Bearer …`.
    Bearer(Secret),
    /// `Authorization: Basic …`.
    Basic {
        /// The user's name; it cannot contain a colon.
        user: String,
        /// The password.
        password: Secret,
    },
}

/// The credentials that open the webhook, and nothing else.
#[derive(Default)]
pub struct WebhookAuth {
    bearer: Vec<[u8; 32]>,
    basic: Vec<[u8; 32]>,
    allow_unauthenticated: bool,
}

impl WebhookAuth {
    /// Any of `credentials` suffices; `allow_unauthenticated` lets everybody in (only for a loopback address;
    /// who builds this decides). Empty secrets are left out: they open nothing.
    pub fn new(credentials: &[WebhookCredential], allow_unauthenticated: bool) -> Self {
        let mut auth = Self { allow_unauthenticated, ..Self::default() };
        for credential in credentials {
            match credential {
                WebhookCredential::Bearer(secret) if !secret.expose().is_empty() => {
                    auth.bearer.push(digest(secret.expose().as_bytes()));
                }
                WebhookCredential::Basic { user, password } if !password.expose().is_empty() => {
                    auth.basic.push(digest(format!("{user}:{}", password.expose()).as_bytes()));
                }
                WebhookCredential::Bearer(_) | WebhookCredential::Basic { .. } => {}
            }
        }
        auth
    }

    /// Whether the sender of this `Authorization` header may deliver.
    ///
    /// # Errors
    /// The [`Failure`].
    pub fn check(&self, authorization: Option<&[u8]>) -> Result<(), Failure> {
        if self.allow_unauthenticated {
            return Ok(());
        }
        if self.bearer.is_empty() && self.basic.is_empty() {
            return Err(Failure::NotConfigured);
        }
        let (scheme, given) = credential(authorization)?;
        if scheme.eq_ignore_ascii_case("bearer") {
            return contains(&self.bearer, &digest(given.as_bytes()));
        }
        if scheme.eq_ignore_ascii_case("basic") {
            let pair = STANDARD.decode(given).map_err(|_| Failure::Malformed)?;
            return contains(&self.basic, &digest(&pair));
        }
        Err(Failure::Malformed)
    }
}

impl fmt::Debug for WebhookAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookAuth")
            .field("bearer", &self.bearer.len())
            .field("basic", &self.basic.len())
            .field("allow_unauthenticated", &self.allow_unauthenticated)
            .finish()
    }
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn contains(all: &[[u8; 32]], one: &[u8; 32]) -> Result<(), Failure> {
    let found = all.iter().fold(Choice::from(0), |found, known| found | known.ct_eq(one));
    if bool::from(found) { Ok(()) } else { Err(Failure::Credential) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth() -> WebhookAuth {
        WebhookAuth::new(
            &[
                WebhookCredential::Bearer(Secret::new("new-token")),
                WebhookCredential::Bearer(Secret::new("old-token\n")),
                WebhookCredential::Bearer(Secret::new("")),
                WebhookCredential::Basic { user: "am".into(), password: Secret::new("pa:ss") },
                WebhookCredential::Basic { user: "empty".into(), password: Secret::new("") },
            ],
            false,
        )
    }

    fn basic(pair: &str) -> String {
        format!("Basic {}", STANDARD.encode(pair))
    }

    #[test]
    fn every_configured_credential_opens_the_webhook() {
        for good in [
            "Bearer new-token",
            "bearer old-token",
            &basic("am:pa:ss"),
            &basic("am:pa:ss").replace("Basic", "BASIC"),
        ] {
            assert_eq!(auth().check(Some(good.as_bytes())), Ok(()), "{good}");
        }
    }

    #[test]
    fn everything_else_is_refused_with_its_reason() {
        use Failure::{Credential, Malformed, Missing};
        let cases = [
            (None, Missing),
            (Some("Bearer new-toke".to_owned()), Credential),
            (Some("Bearer new-tokenx".to_owned()), Credential),
            (Some("Bearer am:pa:ss".to_owned()), Credential),
            (Some("Bearer ".to_owned()), Malformed),
            (Some("Token new-token".to_owned()), Malformed),
            (Some("new-token".to_owned()), Malformed),
            (Some("Basic %%%".to_owned()), Malformed),
            (Some(basic("am:pa")), Credential),
            (Some(basic("AM:pa:ss")), Credential),
            (Some(basic("new-token")), Credential),
            (Some(basic("empty:")), Credential),
            (Some(basic("")), Malformed),
        ];
        for (header, expected) in cases {
            let got = auth().check(header.as_deref().map(str::as_bytes));
            assert_eq!(got, Err(expected), "{header:?}");
        }
    }

    #[test]
    fn the_open_webhook_takes_any_sender_and_an_unconfigured_one_none() {
        assert_eq!(WebhookAuth::new(&[], true).check(None), Ok(()));
        assert_eq!(WebhookAuth::new(&[], false).check(None), Err(Failure::NotConfigured));
        let only_empty = [WebhookCredential::Bearer(Secret::new(""))];
        assert_eq!(
            WebhookAuth::new(&only_empty, false).check(Some(b"Bearer x")),
            Err(Failure::NotConfigured)
        );
    }

    #[test]
    fn debug_shows_numbers_and_no_secret() {
        let text = format!("{:?} {:?}", auth(), WebhookCredential::Bearer(Secret::new("new-token")));
        assert!(!text.contains("token\""), "{text}");
        assert!(!text.contains("new-token"), "{text}");
    }
}
