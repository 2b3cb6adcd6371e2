//! Passwords of local users: argon2id in PHC text, with bounded cost, and a decoy for names nobody has.
//!
//! Slow on purpose: callers run it off the tasks that serve others. May import: `model`. Must never: show a password
//! or a hash.

use crate::model::Secret;
use argon2::password_hash::phc::PasswordHash as Phc;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{ARGON2ID_IDENT, Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use std::fmt;

/// The fewest characters of a password.
pub const MIN_PASSWORD_CHARS: usize = 12;
/// The most bytes of one.
pub const MAX_PASSWORD_BYTES: usize = 512;

/// What a hash made here costs: OWASP's second choice, 19 MiB and two passes.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
/// What a hash made elsewhere may cost: below, it is guessed from a stolen file; above, each sign-in is an attack.
const MIN_MEMORY_KIB: u32 = 7 * 1024;
const MAX_MEMORY_KIB: u32 = 256 * 1024;
const MAX_PASSES: u32 = 16;
const MAX_LANES: u32 = 8;
const OUTPUT_BYTES: usize = 32;

/// Why a hash cannot be used. None of these contains any part of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// Not a PHC text, or one without salt or output.
    #[error("this is not a password hash; `runbookd hash-password` makes one")]
    NotAHash,
    /// Another function.
    #[error("the hash is not argon2id; `runbookd hash-password` makes one")]
    NotArgon2id,
    /// It costs a thief too little, or us too much.
    #[error("the hash costs {0}; `runbookd hash-password` makes one that fits")]
    Cost(&'static str),
    /// The function refused.
    #[error("the password cannot be hashed")]
    Failed,
}

/// Why a text is not taken as a new password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// It can be guessed.
    #[error("a password has at least {MIN_PASSWORD_CHARS} characters")]
    TooShort,
    /// Nobody types that.
    #[error("a password has at most {MAX_PASSWORD_BYTES} bytes")]
    TooLong,
    /// A line end or the like, which no form can send.
    #[error("a password has no control characters")]
    Control,
}

/// Whether a new password is taken.
///
/// # Errors
/// [`PasswordError`].
pub fn check_password(password: &str) -> Result<(), PasswordError> {
    if password.len() > MAX_PASSWORD_BYTES {
        return Err(PasswordError::TooLong);
    }
    if password.chars().any(char::is_control) {
        return Err(PasswordError::Control);
    }
    if password.chars().count() < MIN_PASSWORD_CHARS {
        return Err(PasswordError::TooShort);
    }
    Ok(())
}

/// A hash whose cost was checked.
#[derive(Clone)]
pub struct PasswordHash {
    phc: Phc,
    params: Params,
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash")
    }
}

impl PasswordHash {
    /// Reads `$argon2id$…`.
    ///
    /// # Errors
    /// [`HashError`].
    pub fn parse(text: &Secret) -> Result<Self, HashError> {
        let phc = Phc::new(text.expose().trim()).map_err(|_| HashError::NotAHash)?;
        if phc.salt.is_none() || phc.hash.is_none() {
            return Err(HashError::NotAHash);
        }
        if phc.algorithm != ARGON2ID_IDENT {
            return Err(HashError::NotArgon2id);
        }
        let params = Params::try_from(&phc).map_err(|_| HashError::NotAHash)?;
        if params.m_cost() < MIN_MEMORY_KIB {
            return Err(HashError::Cost("less than 7 MiB of memory"));
        }
        if params.m_cost() > MAX_MEMORY_KIB || params.t_cost() > MAX_PASSES || params.p_cost() > MAX_LANES {
            return Err(HashError::Cost("more than 256 MiB, 16 passes or 8 lanes"));
        }
        Ok(Self { phc, params })
    }

    /// The hash of `password`, as text.
    ///
    /// # Errors
    /// [`HashError::Failed`].
    pub fn make(password: &Secret, salt: [u8; 16]) -> Result<Secret, HashError> {
        let params = Params::new(MEMORY_KIB, PASSES, 1, Some(OUTPUT_BYTES)).map_err(|_| HashError::Failed)?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let hash: Phc = argon2
            .hash_password_with_salt(password.expose().as_bytes(), &salt)
            .map_err(|_| HashError::Failed)?;
        Ok(Secret::new(&hash.to_string()))
    }

    /// Tells this hash from others without being worth anything: sessions that an earlier password began carry
    /// another one.
    pub fn mark(&self) -> String {
        let digest = Sha256::digest(self.phc.to_string());
        URL_SAFE_NO_PAD.encode(&digest[..12])
    }

    /// Whether it is the hash of `password`. Takes as long either way.
    pub fn is_of(&self, password: &Secret) -> bool {
        Argon2::default().verify_password(password.expose().as_bytes(), &self.phc).is_ok()
    }

    /// A hash of the same cost that is of no password: what is asked about a name nobody has.
    pub fn decoy(&self) -> Self {
        let (m, t, p) = (self.params.m_cost(), self.params.t_cost(), self.params.p_cost());
        // An output of nothing but zeros, which no password has.
        let zeros = "A".repeat(43);
        let text = format!("$argon2id$v=19$m={m},t={t},p={p}$ZGVjb3kgZGVjb3kgZGVjbw${zeros}");
        // The text is ours and its cost was checked; were it unreadable, a real hash is as good a decoy.
        Self::parse(&Secret::new(&text)).unwrap_or_else(|_| self.clone())
    }

    /// The decoy of hashes that [`PasswordHash::make`] makes.
    ///
    /// # Errors
    /// [`HashError`], which no text of ours can cause.
    pub fn usual_decoy() -> Result<Self, HashError> {
        let zeros = "A".repeat(43);
        let text = format!("$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p=1$ZGVjb3kgZGVjb3kgZGVjbw${zeros}");
        Self::parse(&Secret::new(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &HashError) {
        assert_eq!(PasswordHash::parse(&Secret::new(text)).unwrap_err(), *expected, "{text}");
    }

    #[test]
    fn a_hash_fits_its_password_and_no_other() {
        let password = Secret::new("correct horse battery");
        let text = PasswordHash::make(&password, [3; 16]).unwrap();
        assert!(text.expose().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", text.expose());
        let hash = PasswordHash::parse(&text).unwrap();
        assert!(hash.is_of(&password));
        assert!(!hash.is_of(&Secret::new("correct horse batterz")));
        assert!(!hash.is_of(&Secret::new("")));
        let other = PasswordHash::make(&password, [4; 16]).unwrap();
        assert_ne!(text, other, "the salt counts");
    }

    #[test]
    fn a_decoy_costs_the_same_and_fits_nothing() {
        let text = PasswordHash::make(&Secret::new("correct horse battery"), [3; 16]).unwrap();
        let text = text.expose().replace("m=19456", "m=8192");
        let hash = PasswordHash::parse(&Secret::new(&text)).unwrap();
        let decoy = hash.decoy();
        assert_eq!((decoy.params.m_cost(), decoy.params.t_cost()), (8192, 2));
        assert!(!decoy.is_of(&Secret::new("correct horse battery")));
        let usual = PasswordHash::usual_decoy().unwrap();
        assert_eq!((usual.params.m_cost(), usual.params.t_cost(), usual.params.p_cost()), (19456, 2, 1));
        assert!(!usual.is_of(&Secret::new("")));
    }

    #[test]
    fn a_hash_of_another_function_or_cost_is_refused() {
        let salt = "ZGVjb3kgZGVjb3kgZGVjbw";
        let out = "A".repeat(43);
        check("", &HashError::NotAHash);
        check("hunter2", &HashError::NotAHash);
        check("$argon2id$v=19$m=19456,t=2,p=1", &HashError::NotAHash);
        check(&format!("$argon2i$v=19$m=19456,t=2,p=1${salt}${out}"), &HashError::NotArgon2id);
        check(
            &format!("$argon2id$v=19$m=1024,t=2,p=1${salt}${out}"),
            &HashError::Cost("less than 7 MiB of memory"),
        );
        let costly = HashError::Cost("more than 256 MiB, 16 passes or 8 lanes");
        check(&format!("$argon2id$v=19$m=1048576,t=2,p=1${salt}${out}"), &costly);
        check(&format!("$argon2id$v=19$m=19456,t=99,p=1${salt}${out}"), &costly);
        check("$2b$12$abcdefghijklmnopqrstuuDummyDummyDummyDummyDummyDummyDu", &HashError::NotAHash);
    }

    #[test]
    fn a_new_password_is_long_enough_and_can_be_typed() {
        assert_eq!(check_password("elf elf elf "), Ok(()));
        assert_eq!(check_password("zwölf zwölf!"), Ok(()));
        assert_eq!(check_password("elfelfelfel"), Err(PasswordError::TooShort));
        assert_eq!(check_password(&"x".repeat(512)), Ok(()));
        assert_eq!(check_password(&"x".repeat(513)), Err(PasswordError::TooLong));
        assert_eq!(check_password("elf elf elf\nelf"), Err(PasswordError::Control));
    }

    #[test]
    fn debug_shows_no_hash() {
        let text = PasswordHash::make(&Secret::new("correct horse battery"), [3; 16]).unwrap();
        let shown = format!("{:?} {text:?}", PasswordHash::parse(&text).unwrap());
        assert!(!shown.contains("argon2"), "{shown}");
    }
}
