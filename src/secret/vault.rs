//! Encryption of what is stored: Fernet, as Python's `cryptography` reads and writes it.
//!
//! A token is the base64 of version 0x80, seconds since 1970, a random block, AES-128-CBC with PKCS#7 padding, and
//! HMAC-SHA256 over all before it. May import: `model`. Must never: tell why a token does not open, or take one whose
//! authentication it has not checked.

use crate::model::{Secret, Timestamp, hex};
use aws_lc_rs::cipher::{
    AES_128, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey,
    UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use base64::Engine as _;
use base64::alphabet::URL_SAFE as ALPHABET;
use base64::engine::general_purpose::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::fmt;

const VERSION: u8 = 0x80;
const HALF: usize = 16;
/// Version and time.
const HEAD: usize = 1 + 8;
const TAG: usize = 32;

/// Generators differ in whether they pad.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why something cannot be encrypted or decrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// The key is no key.
    #[error("it is not a Fernet key: 32 bytes in URL-safe base64, which is 44 letters ending in =")]
    Key,
    /// There is no key.
    #[error("[vault] key is not configured")]
    NoKey,
    /// No key opens it.
    #[error("no key of [vault] opens it")]
    Sealed,
    /// The machine gave no random bytes, or the cipher refused.
    #[error("it could not be encrypted")]
    Cipher,
}

#[derive(Clone)]
struct Key {
    signing: [u8; HALF],
    cipher: [u8; HALF],
}

/// The keys: the first encrypts, all decrypt. Without one, nothing is stored.
#[derive(Clone, Default)]
pub struct Vault {
    keys: Vec<Key>,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("keys", &self.keys.len()).finish()
    }
}

/// What was in a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The secret.
    pub secret: Secret,
    /// Whether the first key opened it, so that it needs not be encrypted anew.
    pub is_current: bool,
}

impl Key {
    fn read(key: &Secret) -> Result<Self, VaultError> {
        let bytes = LENIENT.decode(key.expose().trim()).map_err(|_| VaultError::Key)?;
        let (signing, cipher) = bytes.split_at_checked(HALF).ok_or(VaultError::Key)?;
        let half = |bytes: &[u8]| bytes.try_into().map_err(|_| VaultError::Key);
        Ok(Self { signing: half(signing)?, cipher: half(cipher)? })
    }

    fn tag(&self, signed: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.signing).ok()?;
        mac.update(signed);
        Some(mac)
    }

    fn seal(&self, text: &[u8], iv: [u8; HALF], seconds: u64) -> Option<Vec<u8>> {
        let mut body = text.to_vec();
        let key = UnboundCipherKey::new(&AES_128, &self.cipher).ok()?;
        let key = PaddedBlockEncryptingKey::cbc_pkcs7(key).ok()?;
        key.less_safe_encrypt(&mut body, EncryptionContext::Iv128(FixedLength::from(iv))).ok()?;
        let mut token = vec![VERSION];
        token.extend(seconds.to_be_bytes());
        token.extend(iv);
        token.extend(body);
        let tag = self.tag(&token)?.finalize().into_bytes();
        token.extend(tag);
        Some(token)
    }

    fn open(&self, token: &[u8]) -> Option<Secret> {
        let (signed, tag) = token.split_at_checked(token.len().checked_sub(TAG)?)?;
        self.tag(signed)?.verify_slice(tag).ok()?;
        let iv: [u8; HALF] = signed.get(HEAD..HEAD + HALF)?.try_into().ok()?;
        if signed[0] != VERSION {
            return None;
        }
        let mut body = signed[HEAD + HALF..].to_vec();
        let key = UnboundCipherKey::new(&AES_128, &self.cipher).ok()?;
        let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).ok()?;
        let text = key.decrypt(&mut body, DecryptionContext::Iv128(FixedLength::from(iv))).ok()?;
        Some(Secret::new(std::str::from_utf8(text).ok()?))
    }
}

impl Vault {
    /// With these keys, the one to encrypt with first.
    ///
    /// # Errors
    /// [`VaultError::Key`]
    pub fn new(keys: &[Secret]) -> Result<Self, VaultError> {
        Ok(Self { keys: keys.iter().map(Key::read).collect::<Result<_, _>>()? })
    }

    /// Whether there is a key.
    pub fn has_key(&self) -> bool {
        !self.keys.is_empty()
    }

    /// By which the first key is told from others, and nothing more.
    pub fn first_key(&self) -> Option<String> {
        let key = self.keys.first()?;
        let digest = Sha256::new().chain_update(b"runbookd vault key").chain_update(key.signing);
        let digest = digest.chain_update(key.cipher).finalize();
        Some(hex(&digest[..6]))
    }

    /// Encrypts `secret` with the first key.
    ///
    /// # Errors
    /// [`VaultError::NoKey`], [`VaultError::Cipher`]
    pub fn seal(&self, secret: &Secret, now: Timestamp) -> Result<String, VaultError> {
        let key = self.keys.first().ok_or(VaultError::NoKey)?;
        let mut iv = [0; HALF];
        aws_lc_rs::rand::fill(&mut iv).map_err(|_| VaultError::Cipher)?;
        let seconds = u64::try_from(now.as_second()).unwrap_or(0);
        let token = key.seal(secret.expose().as_bytes(), iv, seconds).ok_or(VaultError::Cipher)?;
        Ok(URL_SAFE.encode(token))
    }

    /// Decrypts a token with whichever key fits.
    ///
    /// # Errors
    /// [`VaultError::NoKey`], [`VaultError::Sealed`]
    pub fn open(&self, token: &str) -> Result<Opened, VaultError> {
        if self.keys.is_empty() {
            return Err(VaultError::NoKey);
        }
        let token = LENIENT.decode(token).map_err(|_| VaultError::Sealed)?;
        let mut opened = self.keys.iter().enumerate().filter_map(|(at, key)| Some((at, key.open(&token)?)));
        let (at, secret) = opened.next().ok_or(VaultError::Sealed)?;
        Ok(Opened { secret, is_current: at == 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(keys: &[&str]) -> Vault {
        Vault::new(&keys.iter().map(|key| Secret::new(key)).collect::<Vec<_>>()).unwrap()
    }

    /// The vectors of the specification, which `cryptography` has among its tests.
    const KEY: &str = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=";
    const TOKEN: &str = "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA==";
    const OTHER: &str = "JYaCi_3kRSJUJDXmqRyKEcLXPhI3sQhyQ3OlCnHdQzs=";

    #[test]
    fn what_python_writes_is_read_and_the_same_is_written() {
        let opened = vault(&[KEY]).open(TOKEN).unwrap();
        assert_eq!((opened.secret.expose(), opened.is_current), ("hello", true));
        let iv = std::array::from_fn(|at| at as u8);
        let sealed = Key::read(&Secret::new(KEY)).unwrap().seal(b"hello", iv, 499_162_800).unwrap();
        assert_eq!(URL_SAFE.encode(sealed), TOKEN);
    }

    #[test]
    fn the_first_key_encrypts_and_every_key_decrypts() {
        let now = Timestamp::from_second(1).unwrap();
        let secret = Secret::new("hunter2 ü");
        let old = vault(&[KEY]).seal(&secret, now).unwrap();
        let both = vault(&[OTHER, KEY]);
        let opened = both.open(&old).unwrap();
        assert_eq!((opened.secret.expose(), opened.is_current), ("hunter2 ü", false));
        let new = both.seal(&opened.secret, now).unwrap();
        assert!(both.open(&new).unwrap().is_current);
        assert_eq!(vault(&[KEY]).open(&new), Err(VaultError::Sealed));
        assert_ne!(new, both.seal(&secret, now).unwrap(), "no two are alike");
    }

    #[test]
    fn a_token_that_was_touched_does_not_open() {
        let bytes = URL_SAFE.decode(TOKEN).unwrap();
        for at in 0..bytes.len() {
            let mut touched = bytes.clone();
            touched[at] ^= 1;
            assert_eq!(vault(&[KEY]).open(&URL_SAFE.encode(&touched)), Err(VaultError::Sealed), "byte {at}");
            assert!(vault(&[KEY]).open(&URL_SAFE.encode(&bytes[..at])).is_err(), "cut at {at}");
        }
        assert_eq!(vault(&[]).open(TOKEN), Err(VaultError::NoKey));
        assert_eq!(Vault::default().seal(&Secret::new("x"), Timestamp::UNIX_EPOCH), Err(VaultError::NoKey));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for key in
            ["", "short", &KEY[..40], &format!("{KEY}A"), "not base64 at all, but of the right length!!"]
        {
            assert_eq!(Vault::new(&[Secret::new(key)]).unwrap_err(), VaultError::Key, "{key}");
        }
        assert!(Vault::new(&[Secret::new(KEY.trim_end_matches('='))]).is_ok());
        assert!(!format!("{:?}", vault(&[KEY])).contains("cw_0"));
    }
}
