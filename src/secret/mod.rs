//! Secrets at run time: who is called what, what is kept encrypted, and what is taken out of everything that leaves.
//!
//! [`Secrets`] is what steps ask by name, [`Vault`] encrypts what is stored, [`Redactor`] finds secrets in what is
//! written, in the forms `forms` lists. May import: `model`. Must never: write a secret anywhere, or show one in
//! `Debug`.

mod forms;
mod redactor;
mod secrets;
#[cfg(test)]
mod tests;
mod vault;

pub use forms::MIN_LENGTH;
pub use redactor::{MARK, Redactor, Stream};
pub use secrets::{Secrets, Unavailable};
pub use vault::{Opened, Vault, VaultError};
