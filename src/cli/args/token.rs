//! The words of `token`.

use super::{lifetime, not_blank, pair};
use clap::{ArgGroup, Args};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("key").required(true))]
pub(in crate::cli) struct Token {
    /// Who the token is for
    #[arg(long, value_parser = subject)]
    pub(in crate::cli) subject: String,
    /// A role of theirs; may be repeated
    #[arg(long = "role", value_name = "ROLE", required_unless_present = "claims", value_parser = not_blank)]
    pub(in crate::cli) roles: Vec<String>,
    /// How long it is good for
    #[arg(long, default_value = "8h", value_parser = lifetime)]
    pub(in crate::cli) ttl: Duration,
    /// The claim iss, where the server's auth.jwt wants one
    #[arg(long)]
    pub(in crate::cli) issuer: Option<String>,
    /// The claim aud, likewise
    #[arg(long)]
    pub(in crate::cli) audience: Option<String>,
    /// A file with the secret of auth.jwt (HS256)
    #[arg(long, value_name = "FILE", group = "key")]
    pub(in crate::cli) secret_file: Option<PathBuf>,
    /// A variable with the secret of auth.jwt (HS256)
    #[arg(long, value_name = "NAME", group = "key")]
    pub(in crate::cli) secret_env: Option<String>,
    /// A file with a private key in PEM (RS256, ES256 or EdDSA)
    #[arg(long, value_name = "FILE", group = "key")]
    pub(in crate::cli) private_key_file: Option<PathBuf>,
    /// Another claim, always a text; may be repeated
    #[arg(long = "claim", id = "claims", value_name = "K=V", value_parser = pair)]
    pub(in crate::cli) claims: Vec<(String, String)>,
}

/// The rule of the server's own check, told before a useless token is made.
fn subject(text: &str) -> Result<String, String> {
    if text.chars().count() > 256 || text.chars().any(char::is_control) {
        return Err("at most 256 characters, none of them a control".to_owned());
    }
    not_blank(text)
}
