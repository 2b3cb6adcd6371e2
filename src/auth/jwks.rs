//! A set of public keys as an issuer serves it (RFC 7517), reduced to those that may check a signature here.
//!
//! What is not understood is passed over, because issuers put other keys beside ours; a symmetric key never counts.
//! May import: nothing of this crate outside this room. Must never: fetch anything.

use super::jwt::VerifyingKey;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::BoxFuture;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};
use std::fmt;
use std::sync::Arc;

/// The most keys looked at.
const MAX_KEYS: usize = 64;
/// The longest `kid`, in bytes.
const MAX_KID: usize = 256;
/// Bits of an RSA modulus: fewer can be factored, more make each check an attack on ourselves.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Why a document holds no key for us.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// Not `{"keys": […]}`.
    #[error("it is no JSON Web Key Set")]
    NotASet,
    /// None of its keys can be used.
    #[error("none of its {0} keys can check a signature: RSA of 2048 bits or more, EC P-256 and Ed25519 can")]
    NoUsableKey(usize),
}

/// The keys in force, each with the name its issuer gave it.
#[derive(Debug, Clone)]
pub struct KeySet {
    keys: Vec<(Option<String>, VerifyingKey)>,
}

impl KeySet {
    /// Keys whose names do not matter: those of the config.
    pub fn of(keys: Vec<VerifyingKey>) -> Self {
        Self { keys: keys.into_iter().map(|key| (None, key)).collect() }
    }

    /// Reads the document of an issuer.
    ///
    /// # Errors
    /// [`JwksError`].
    pub fn read(document: &[u8]) -> Result<Self, JwksError> {
        let document: Value = serde_json::from_slice(document).map_err(|_| JwksError::NotASet)?;
        let all = document.get("keys").and_then(Value::as_array).ok_or(JwksError::NotASet)?;
        let keys: Vec<_> = all.iter().take(MAX_KEYS).filter_map(Value::as_object).filter_map(key).collect();
        if keys.is_empty() { Err(JwksError::NoUsableKey(all.len())) } else { Ok(Self { keys }) }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys a token that names `kid` may be signed with. A name selects among keys we have and does nothing
    /// else; a key without a name is always meant. Nothing where the name is unknown.
    pub(super) fn meant<'k>(&'k self, kid: Option<&'k str>) -> impl Iterator<Item = &'k VerifyingKey> {
        self.keys
            .iter()
            .filter(move |(name, _)| kid.is_none() || name.is_none() || name.as_deref() == kid)
            .map(|(_, key)| key)
    }
}

/// Who serves keys that change without a reload.
pub trait KeyServer: Send + Sync + fmt::Debug {
    /// The keys in force; nothing when none could be had yet, or not for too long.
    fn keys(&self) -> Option<Arc<KeySet>>;
    /// Looks for newer keys, if that was not done just now; ready when they are there or cannot be had.
    fn look_again(&self) -> BoxFuture<'_, ()>;
}

/// One key, when it may check signatures by an algorithm we do.
fn key(jwk: &Map<String, Value>) -> Option<(Option<String>, VerifyingKey)> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let verifies = match jwk.get("key_ops") {
        None => true,
        Some(Value::Array(operations)) => operations.iter().any(|operation| operation == "verify"),
        Some(_) => false,
    };
    if !verifies || jwk.get("use").is_some_and(|purpose| purpose != "sig") {
        return None;
    }
    let (algorithm, name, key) = match text("kty")? {
        "RSA" => (Algorithm::RS256, "RS256", rsa(text("n")?, text("e")?)?),
        "EC" if text("crv") == Some("P-256") => {
            let point = (coordinate(text("x")?)?, coordinate(text("y")?)?);
            (Algorithm::ES256, "ES256", DecodingKey::from_ec_components(point.0, point.1).ok()?)
        }
        "OKP" if text("crv") == Some("Ed25519") => {
            (Algorithm::EdDSA, "EdDSA", DecodingKey::from_ed_components(coordinate(text("x")?)?).ok()?)
        }
        _ => return None,
    };
    if jwk.get("alg").is_some_and(|alg| alg != name) {
        return None;
    }
    let kid = match jwk.get("kid") {
        None => None,
        Some(Value::String(kid)) if kid.len() <= MAX_KID => Some(kid.clone()),
        Some(_) => return None,
    };
    Some((kid, VerifyingKey::new(algorithm, key)))
}

fn rsa(modulus: &str, exponent: &str) -> Option<DecodingKey> {
    let (n, e) = (URL_SAFE_NO_PAD.decode(modulus).ok()?, URL_SAFE_NO_PAD.decode(exponent).ok()?);
    let leading = n.iter().position(|byte| *byte != 0)?;
    let bits = (n.len() - leading) * 8 - n[leading].leading_zeros() as usize;
    let exponent_value = e.iter().fold(0_u64, |value, byte| (value << 8) | u64::from(*byte));
    // An even exponent has no inverse, and with 1 every text is its own signature.
    let sound = e.len() <= 8 && exponent_value > 1 && exponent_value % 2 == 1;
    (RSA_BITS.contains(&bits) && sound).then(|| DecodingKey::from_rsa_components(modulus, exponent).ok())?
}

/// 32 bytes, as P-256 and Ed25519 write a number.
fn coordinate(text: &str) -> Option<&str> {
    URL_SAFE_NO_PAD.decode(text).is_ok_and(|bytes| bytes.len() == 32).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::install_crypto;
    use serde_json::json;

    fn number(byte: u8, length: usize) -> String {
        URL_SAFE_NO_PAD.encode(vec![byte; length])
    }

    fn rsa_key() -> Value {
        json!({ "kty": "RSA", "kid": "a", "use": "sig", "alg": "RS256", "n": number(0xc1, 256), "e": "AQAB" })
    }

    /// `base` with `name` set to `value`, or removed where it is null.
    fn with(base: &Value, name: &str, value: Value) -> Value {
        let mut key = base.clone();
        let object = key.as_object_mut().unwrap();
        if value.is_null() {
            object.remove(name)
        } else {
            object.insert(name.to_owned(), value)
        };
        key
    }

    fn usable(keys: &[Value]) -> usize {
        install_crypto();
        KeySet::read(json!({ "keys": keys }).to_string().as_bytes()).map_or(0, |set| set.len())
    }

    #[test]
    fn t23_only_keys_that_may_check_signatures_here_are_taken() {
        let rsa = rsa_key();
        let ec = json!({ "kty": "EC", "crv": "P-256", "x": number(1, 32), "y": number(2, 32) });
        let ed = json!({ "kty": "OKP", "crv": "Ed25519", "x": number(3, 32) });
        for good in [
            rsa.clone(),
            ec.clone(),
            ed.clone(),
            with(&rsa, "use", Value::Null),
            with(&rsa, "alg", Value::Null),
            with(&rsa, "kid", Value::Null),
            with(&rsa, "key_ops", json!(["verify"])),
            with(&rsa, "x5c", json!(["ignored"])),
        ] {
            assert_eq!(usable(std::slice::from_ref(&good)), 1, "{good}");
        }
        let secret = json!({ "kty": "oct", "kid": "a", "alg": "HS256", "k": number(9, 64) });
        for bad in [
            secret.clone(),
            with(&rsa, "kty", json!("oct")),
            with(&rsa, "kty", json!(["RSA"])),
            with(&rsa, "kty", Value::Null),
            with(&rsa, "use", json!("enc")),
            with(&rsa, "use", json!(["sig"])),
            with(&rsa, "key_ops", json!(["encrypt"])),
            with(&rsa, "key_ops", json!("verify")),
            with(&rsa, "alg", json!("HS256")),
            with(&rsa, "alg", json!("RS512")),
            with(&rsa, "alg", json!("PS256")),
            with(&rsa, "alg", json!("none")),
            with(&rsa, "n", json!(number(0xc1, 128))),
            with(&rsa, "n", json!(number(0xc1, 2048))),
            with(&rsa, "n", json!(number(0, 256))),
            with(&rsa, "n", json!("!!")),
            with(&rsa, "e", json!("AQ")),
            with(&rsa, "e", json!("Ag")),
            with(&rsa, "e", json!("")),
            with(&rsa, "e", json!(number(0xff, 9))),
            with(&rsa, "kid", json!(7)),
            with(&rsa, "kid", json!("k".repeat(257))),
            with(&ec, "crv", json!("P-384")),
            with(&ec, "x", json!(number(1, 31))),
            with(&ec, "y", Value::Null),
            with(&ec, "alg", json!("EdDSA")),
            with(&ed, "crv", json!("X25519")),
            with(&ed, "x", json!(number(3, 33))),
        ] {
            assert_eq!(usable(std::slice::from_ref(&bad)), 0, "{bad}");
            assert_eq!(usable(&[bad, rsa.clone()]), 1, "what cannot be used takes nothing from what can");
        }
        assert_eq!(usable(&vec![rsa; 200]), MAX_KEYS);
    }

    #[test]
    fn t23_what_is_no_key_set_is_refused_as_a_whole() {
        for bad in ["", "x", "[]", "{}", r#"{"keys": {}}"#, r#"{"keys": "a"}"#, "<html>"] {
            assert_eq!(KeySet::read(bad.as_bytes()).unwrap_err(), JwksError::NotASet, "{bad}");
        }
        for bad in [r#"{"keys": []}"#, r#"{"keys": [7, null, "a", []]}"#] {
            assert!(matches!(KeySet::read(bad.as_bytes()), Err(JwksError::NoUsableKey(_))), "{bad}");
        }
    }

    #[test]
    fn a_name_selects_among_the_keys_and_invents_none() {
        install_crypto();
        let keys = [rsa_key(), with(&rsa_key(), "kid", json!("b"))];
        let set = KeySet::read(json!({ "keys": keys }).to_string().as_bytes()).unwrap();
        let count = |kid| set.meant(kid).count();
        assert_eq!((count(None), count(Some("a")), count(Some("b")), count(Some("../a"))), (2, 1, 1, 0));
        let nameless = [with(&rsa_key(), "kid", Value::Null)];
        let set = KeySet::read(json!({ "keys": nameless }).to_string().as_bytes()).unwrap();
        assert_eq!(set.meant(Some("any")).count(), 1);
    }
}
