//! `hash-password`: reads a password, prints its hash for the users file.
//!
//! May import: `model`, `auth`. Must never: take a password as an argument, which every user of the machine sees.

use super::quit::{Quit, YES};
use super::screen::Screen;
use crate::auth::{MAX_PASSWORD_BYTES, PasswordHash, check_password, random};
use crate::model::Secret;
use std::io::Read;

/// Reads one password from `input`; the line end behind it does not belong to it.
pub(super) fn run(input: &mut dyn Read, screen: &mut Screen<'_>) -> Result<i32, Quit> {
    let mut text = String::new();
    // One byte too many tells a password that is too long from one that just fits, with its line end.
    let read = input.take(MAX_PASSWORD_BYTES as u64 + 3).read_to_string(&mut text);
    read.map_err(|cause| Quit::no(format!("the password cannot be read: {cause}")))?;
    let password = Secret::new(&text);
    check_password(password.expose()).map_err(|error| Quit::no(error.to_string()))?;
    let salt = random().map_err(|error| Quit::no(error.to_string()))?;
    let hash = PasswordHash::make(&password, salt).map_err(|error| Quit::no(error.to_string()))?;
    screen.line(hash.expose())?;
    Ok(YES)
}
