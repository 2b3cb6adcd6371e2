//! JSON Web Tokens: checking those of callers, making those of the `token` command.
//!
//! The key pins the algorithm: a token's `alg` only has to agree with it, and every header that offers another
//! key (`jwk`, `jku`, `x5u`, `x5c`) is ignored; a `kid` selects among the keys of an issuer, and does nothing else. Signatures are the crate's work; claims are checked here,
//! strictly by type and against a time given by the caller. May import: `model`. Must never: fetch a key.

use super::jwks::{KeyServer, KeySet};
use super::{Failure, Principal, Roles, Via};
use crate::model::{Secret, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::crypto::{self, CryptoProvider};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, encode};
use serde_json::{Map, Value};
use std::fmt;
use std::sync::Arc;

/// How the subject of an account begins that somebody made for themselves; no token may claim to be one.
pub const SIGNUP_PREFIX: &str = "signup:";
/// Clock difference forgiven for `exp` and `nbf`, in seconds: enough for hosts that keep time by NTP, too short
/// to be worth stealing a token for.
pub const LEEWAY_SECONDS: i64 = 10;
/// Longest token looked at, in bytes.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// Shortest HS256 secret, in bytes: below it a captured token gives the secret away to guessing.
const MIN_SECRET_BYTES: usize = 32;
/// An RSA key of fewer bits than 2048 has a DER encoding shorter than this.
const MIN_RSA_DER_BYTES: usize = 256;
const MAX_SUBJECT_CHARS: usize = 256;
/// DER of the object identifier of the curve P-256.
const P256_OID: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

/// Chooses the cryptographic backend of the process. Called by every constructor here; calling it again, or
/// from several threads, is harmless.
pub fn install_crypto() {
    // The error says that a provider is installed already, which is what is wanted.
    CryptoProvider::install_default(&crypto::aws_lc::DEFAULT_PROVIDER).ok();
}

/// Why a key cannot be used. None of these contains any part of the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// An HS256 secret that could be guessed.
    #[error("the JWT secret has {0} bytes, at least 32 are needed; make one with `openssl rand -base64 48`")]
    ShortSecret(usize),
    /// Not a PEM text of the wanted kind.
    #[error("this is not a PEM {wanted} (RSA, EC P-256 or Ed25519)")]
    NotAKey {
        /// "public key" or "private key (PKCS#8)".
        wanted: &'static str,
    },
    /// An RSA key too short to be trusted.
    #[error("the RSA key has fewer than 2048 bits; make a longer one")]
    WeakRsa,
    /// A curve other than P-256.
    #[error("the EC key is not on the curve P-256, which ES256 needs")]
    Curve,
    /// A verifier without any key would refuse everybody.
    #[error("no key is given to check tokens with")]
    NoKey,
    /// The backend refused to sign with this key.
    #[error("the token cannot be signed with this key")]
    Sign,
}

/// A key to check tokens with, and the one algorithm it is good for.
#[derive(Clone)]
pub struct VerifyingKey {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({:?})", self.algorithm)
    }
}

impl VerifyingKey {
    pub(super) fn new(algorithm: Algorithm, key: DecodingKey) -> Self {
        Self { algorithm, key }
    }

    /// HS256 with a shared secret.
    ///
    /// # Errors
    /// [`KeyError::ShortSecret`].
    pub fn secret(secret: &Secret) -> Result<Self, KeyError> {
        install_crypto();
        let bytes = long_enough(secret)?;
        Ok(Self { algorithm: Algorithm::HS256, key: DecodingKey::from_secret(bytes) })
    }

    /// RS256, ES256 or EdDSA, whichever the public key in `pem` is for. A private key is refused: it has no
    /// business on a server that only checks.
    ///
    /// # Errors
    /// [`KeyError`] saying what is wrong with the key.
    pub fn public_pem(pem: &str) -> Result<Self, KeyError> {
        install_crypto();
        let not_a_key = KeyError::NotAKey { wanted: "public key" };
        if pem.contains("PRIVATE") || !pem.contains("PUBLIC KEY-----") {
            return Err(not_a_key);
        }
        let bytes = pem.as_bytes();
        if let Ok(key) = DecodingKey::from_ed_pem(bytes) {
            return Ok(Self { algorithm: Algorithm::EdDSA, key });
        }
        if let Ok(key) = DecodingKey::from_ec_pem(bytes) {
            require_p256(pem)?;
            return Ok(Self { algorithm: Algorithm::ES256, key });
        }
        let key = DecodingKey::from_rsa_pem(bytes).map_err(|_| not_a_key)?;
        if key.try_get_as_bytes().is_ok_and(|der| der.len() < MIN_RSA_DER_BYTES) {
            return Err(KeyError::WeakRsa);
        }
        Ok(Self { algorithm: Algorithm::RS256, key })
    }
}

/// What the claims of a token must say, where configured.
#[derive(Debug, Clone)]
pub struct Expected {
    /// `iss` must equal it.
    pub issuer: Option<String>,
    /// `aud` must equal or contain it. Not configured: `aud` is not looked at.
    pub audience: Option<String>,
    /// The claim that lists roles: a list of strings, or one string with commas; anything else is no role.
    pub roles_claim: String,
}

impl Default for Expected {
    fn default() -> Self {
        Self { issuer: None, audience: None, roles_claim: "roles".to_owned() }
    }
}

/// Where the keys come from.
#[derive(Debug, Clone)]
enum Keys {
    /// The config. They have no names, so a token's `kid` says nothing.
    Given(Arc<KeySet>),
    /// The issuer, who replaces them.
    Served(Arc<dyn KeyServer>),
}

/// Checks tokens.
#[derive(Debug, Clone)]
pub struct Verifier {
    keys: Keys,
    expected: Expected,
}

impl Verifier {
    /// A verifier that accepts a signature by any of `keys` (several, while a key is being replaced).
    ///
    /// # Errors
    /// [`KeyError::NoKey`] when there is none.
    pub fn new(keys: Vec<VerifyingKey>, expected: Expected) -> Result<Self, KeyError> {
        let keys = KeySet::of(keys);
        if keys.is_empty() {
            return Err(KeyError::NoKey);
        }
        Ok(Self { keys: Keys::Given(Arc::new(keys)), expected })
    }

    /// A verifier that accepts a signature by a key its issuer serves just then.
    pub fn served(server: Arc<dyn KeyServer>, expected: Expected) -> Self {
        install_crypto();
        Self { keys: Keys::Served(server), expected }
    }

    /// As [`Verifier::verify`]; a key that is not known is looked for once more.
    ///
    /// # Errors
    /// The [`Failure`].
    pub async fn verify_or_look(
        &self,
        token: &str,
        roles: &Roles,
        now: Timestamp,
    ) -> Result<Principal, Failure> {
        match (self.verify(token, roles, now), &self.keys) {
            (Err(Failure::UnknownKey), Keys::Served(server)) => {
                server.look_again().await;
                self.verify(token, roles, now)
            }
            (outcome, _) => outcome,
        }
    }

    /// Who holds `token`, at `now`.
    ///
    /// # Errors
    /// The [`Failure`]. Nothing of the payload is read before the signature holds.
    pub fn verify(&self, token: &str, roles: &Roles, now: Timestamp) -> Result<Principal, Failure> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Failure::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(Failure::Malformed)?;
        let (header, payload) = message.split_once('.').ok_or(Failure::Malformed)?;
        if header.is_empty() || payload.is_empty() || payload.contains('.') {
            return Err(Failure::Malformed);
        }
        let header = object(header)?;
        let algorithm = header_algorithm(&header)?;
        let kid = header.get("kid").and_then(Value::as_str);
        self.check_signature(message, signature, &algorithm, kid)?;
        let claims = object(payload)?;
        check_times(&claims, now)?;
        self.check_origin(&claims)?;
        let subject = subject(&claims)?;
        let claimed = claimed_roles(&claims, &self.expected.roles_claim);
        let permissions = roles.permissions(&claimed);
        Ok(Principal { subject, permissions, roles: claimed, claims, via: Via::Token })
    }

    fn check_signature(
        &self,
        message: &str,
        signature: &str,
        algorithm: &str,
        kid: Option<&str>,
    ) -> Result<(), Failure> {
        let keys = match &self.keys {
            Keys::Given(keys) => Arc::clone(keys),
            Keys::Served(server) => server.keys().ok_or(Failure::Unavailable)?,
        };
        let mut refused = Failure::UnknownKey;
        for key in keys.meant(kid) {
            if format!("{:?}", key.algorithm) != algorithm {
                if refused == Failure::UnknownKey {
                    refused = Failure::Algorithm;
                }
                continue;
            }
            match crypto::verify(signature, message.as_bytes(), &key.key, key.algorithm) {
                Ok(true) => return Ok(()),
                Ok(false) | Err(_) => refused = Failure::Signature,
            }
        }
        Err(refused)
    }

    fn check_origin(&self, claims: &Map<String, Value>) -> Result<(), Failure> {
        if let Some(issuer) = &self.expected.issuer
            && claims.get("iss").and_then(Value::as_str) != Some(issuer)
        {
            return Err(Failure::Issuer);
        }
        if let Some(audience) = &self.expected.audience {
            let meant = match claims.get("aud") {
                Some(Value::String(one)) => one == audience,
                Some(Value::Array(all)) => all.iter().any(|one| one.as_str() == Some(audience)),
                _ => false,
            };
            if !meant {
                return Err(Failure::Audience);
            }
        }
        Ok(())
    }
}

/// One part of a token as a JSON object.
fn object(part: &str) -> Result<Map<String, Value>, Failure> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Failure::Malformed)?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(object)) => Ok(object),
        _ => Err(Failure::Malformed),
    }
}

/// The `alg` of a header that asks for nothing we do not do.
fn header_algorithm(header: &Map<String, Value>) -> Result<String, Failure> {
    // `crit` lists extensions that must be understood (RFC 7515 §4.1.11), `b64` changes what is signed
    // (RFC 7797), `zip` and `enc` belong to encryption. None of them is done here.
    if ["crit", "b64", "zip", "enc"].iter().any(|name| header.contains_key(*name)) {
        return Err(Failure::Algorithm);
    }
    match header.get("typ") {
        None => {}
        Some(Value::String(typ))
            if ["JWT", "at+jwt", "application/jwt", "application/at+jwt"]
                .iter()
                .any(|known| typ.eq_ignore_ascii_case(known)) => {}
        Some(_) => return Err(Failure::Malformed),
    }
    match header.get("alg") {
        Some(Value::String(algorithm)) => Ok(algorithm.clone()),
        _ => Err(Failure::Malformed),
    }
}

/// `exp` is required, `nbf` obeyed, `iat` only typed. A wrong type is refused, never read as "absent": a
/// verifier that did so accepted `"nbf": "9999999999"` (CVE-2026-25537).
fn check_times(claims: &Map<String, Value>, now: Timestamp) -> Result<(), Failure> {
    let now = now.as_second() as f64;
    let leeway = LEEWAY_SECONDS as f64;
    let exp = numeric_date(claims, "exp")?.ok_or(Failure::Claim)?;
    let nbf = numeric_date(claims, "nbf")?;
    numeric_date(claims, "iat")?;
    if now >= exp + leeway {
        return Err(Failure::Expired);
    }
    if nbf.is_some_and(|nbf| now + leeway < nbf) {
        return Err(Failure::NotYetValid);
    }
    Ok(())
}

/// A NumericDate (RFC 7519 §2): seconds since 1970, fractions allowed, not negative.
fn numeric_date(claims: &Map<String, Value>, name: &str) -> Result<Option<f64>, Failure> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::Number(number)) => match number.as_f64() {
            Some(seconds) if seconds.is_finite() && seconds >= 0.0 => Ok(Some(seconds)),
            _ => Err(Failure::Claim),
        },
        Some(_) => Err(Failure::Claim),
    }
}

/// `sub`: it goes into the audit, so it must be there, be short, and hold no line breaks.
fn subject(claims: &Map<String, Value>) -> Result<String, Failure> {
    let subject = claims.get("sub").and_then(Value::as_str).ok_or(Failure::Claim)?;
    let fits = !subject.trim().is_empty()
        && subject.chars().count() <= MAX_SUBJECT_CHARS
        && !subject.chars().any(char::is_control)
        && !subject.starts_with(SIGNUP_PREFIX);
    if fits { Ok(subject.to_owned()) } else { Err(Failure::Claim) }
}

fn claimed_roles(claims: &Map<String, Value>, claim: &str) -> Vec<String> {
    let words: Vec<&str> = match claims.get(claim) {
        Some(Value::String(list)) => list.split(',').map(str::trim).collect(),
        // One element that is no string spoils the list: it was not written for us.
        Some(Value::Array(list)) => {
            list.iter().map(Value::as_str).collect::<Option<Vec<_>>>().unwrap_or_default()
        }
        _ => Vec::new(),
    };
    words.into_iter().filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn long_enough(secret: &Secret) -> Result<&[u8], KeyError> {
    let bytes = secret.expose().as_bytes();
    if bytes.len() < MIN_SECRET_BYTES { Err(KeyError::ShortSecret(bytes.len())) } else { Ok(bytes) }
}

fn require_p256(pem: &str) -> Result<(), KeyError> {
    let body: String =
        pem.lines().filter(|line| !line.starts_with("-----")).flat_map(|line| line.trim().chars()).collect();
    let der = STANDARD.decode(body).map_err(|_| KeyError::Curve)?;
    if der.windows(P256_OID.len()).any(|part| part == P256_OID) { Ok(()) } else { Err(KeyError::Curve) }
}

/// Makes tokens, for the `token` command and for tests.
pub struct Signer {
    algorithm: Algorithm,
    key: EncodingKey,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({:?})", self.algorithm)
    }
}

impl Signer {
    /// HS256 with a shared secret.
    ///
    /// # Errors
    /// [`KeyError::ShortSecret`].
    pub fn secret(secret: &Secret) -> Result<Self, KeyError> {
        install_crypto();
        let bytes = long_enough(secret)?;
        Ok(Self { algorithm: Algorithm::HS256, key: EncodingKey::from_secret(bytes) })
    }

    /// RS256, ES256 or EdDSA, whichever the private key in `pem` (PKCS#8) is for.
    ///
    /// # Errors
    /// [`KeyError::NotAKey`].
    pub fn private_pem(pem: &Secret) -> Result<Self, KeyError> {
        install_crypto();
        let not_a_key = KeyError::NotAKey { wanted: "private key (PKCS#8)" };
        let text = pem.expose();
        if !text.contains("PRIVATE KEY-----") {
            return Err(not_a_key);
        }
        let bytes = text.as_bytes();
        if let Ok(key) = EncodingKey::from_ed_pem(bytes) {
            return Ok(Self { algorithm: Algorithm::EdDSA, key });
        }
        if let Ok(key) = EncodingKey::from_ec_pem(bytes) {
            return Ok(Self { algorithm: Algorithm::ES256, key });
        }
        let key = EncodingKey::from_rsa_pem(bytes).map_err(|_| not_a_key)?;
        Ok(Self { algorithm: Algorithm::RS256, key })
    }

    /// A token with these claims; the caller sets `sub`, `exp` and the rest.
    ///
    /// # Errors
    /// [`KeyError::Sign`].
    pub fn sign(&self, claims: &Map<String, Value>) -> Result<String, KeyError> {
        encode(&Header::new(self.algorithm), claims, &self.key).map_err(|_| KeyError::Sign)
    }
}

#[cfg(test)]
mod tests;
