//! `token`: signs a token right here, for scripts and for the first sign-in. Only the token goes to stdout.
//!
//! May import: `model`, `auth`. Must never: print a key, or let `--claim` say what a flag of its own says.

use super::Environment;
use super::args::{Token, once};
use super::quit::{Quit, YES};
use super::screen::Screen;
use crate::auth::{MAX_TOKEN_BYTES, Signer};
use crate::model::{Secret, Timestamp};
use serde_json::{Map, Value};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// The longest key file read; an RSA key of 8192 bits has 6.5 KB.
const MAX_KEY: u64 = 64 << 10;
/// Claims that have flags or a meaning of their own.
const TAKEN: [&str; 7] = ["sub", "roles", "iss", "aud", "exp", "iat", "nbf"];

/// Makes and prints a token.
pub(super) fn run(args: &Token, env: &Environment, screen: &mut Screen<'_>) -> Result<i32, Quit> {
    let claims = claims(args, env.clock.now()).map_err(Quit::Usage)?;
    let signer = match (&args.secret_file, &args.secret_env, &args.private_key_file) {
        (Some(path), ..) => Signer::secret(&key_file(path, screen)?),
        (_, Some(name), _) => {
            let value = env.get(name);
            let secret = value.ok_or_else(|| Quit::no(format!("the variable {name} is not set")))?;
            Signer::secret(&Secret::new(secret))
        }
        (.., Some(path)) => Signer::private_pem(&key_file(path, screen)?),
        (None, None, None) => return Err(Quit::Usage("no key is given to sign with".to_owned())),
    };
    let token =
        signer.and_then(|signer| signer.sign(&claims)).map_err(|error| Quit::no(error.to_string()))?;
    if token.len() > MAX_TOKEN_BYTES {
        return Err(Quit::no(format!(
            "the token has {} bytes, the server reads at most {MAX_TOKEN_BYTES}",
            token.len()
        )));
    }
    screen.line(&token)?;
    Ok(YES)
}

fn claims(args: &Token, now: Timestamp) -> Result<Map<String, Value>, String> {
    let mut claims = Map::new();
    for (name, value) in once(args.claims.clone(), "--claim")? {
        if TAKEN.contains(&name.as_str()) {
            return Err(format!("--claim must not set {name}: there is a flag for it"));
        }
        claims.insert(name, value.into());
    }
    let ttl = i64::try_from(args.ttl.as_secs()).ok();
    let expires =
        ttl.and_then(|ttl| now.as_second().checked_add(ttl)).filter(|at| Timestamp::from_second(*at).is_ok());
    let expires = expires.ok_or("--ttl leads beyond the end of time")?;
    claims.insert("sub".to_owned(), args.subject.as_str().into());
    if !args.roles.is_empty() {
        claims.insert("roles".to_owned(), args.roles.clone().into());
    }
    claims.extend(args.issuer.as_deref().map(|issuer| ("iss".to_owned(), issuer.into())));
    claims.extend(args.audience.as_deref().map(|audience| ("aud".to_owned(), audience.into())));
    claims.insert("iat".to_owned(), now.as_second().into());
    claims.insert("exp".to_owned(), expires.into());
    Ok(claims)
}

fn key_file(path: &Path, screen: &mut Screen<'_>) -> Result<Secret, Quit> {
    let shown = path.display();
    let cannot = |cause: std::io::Error| Quit::no(format!("the key file {shown} cannot be read: {cause}"));
    let file = File::open(path).map_err(cannot)?;
    let mode = file.metadata().map_err(cannot)?.permissions().mode();
    if mode & 0o007 != 0 {
        screen.message(&format!(
            "warning: others may read {shown}; the server would refuse it (chmod o= {shown})"
        ));
    }
    let mut text = String::new();
    let read = file.take(MAX_KEY + 1).read_to_string(&mut text).map_err(cannot)?;
    if read as u64 > MAX_KEY {
        return Err(Quit::no(format!("the key file {shown} is longer than {MAX_KEY} bytes")));
    }
    Ok(Secret::new(&text))
}
