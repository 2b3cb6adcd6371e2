//! The stored credentials while the daemon runs: opened at the start, encrypted anew where the key changed.
//!
//! May import: `secret`, `store`. Must never: end the daemon because a credential does not open; who asks for it is told.

use super::build::{BuildError, because};
use super::lifecycle::{Refusal, ServeOptions};
use super::load_config_with;
use crate::config::{Config, Stored};
use crate::document::Problem;
use crate::model::Clock;
use crate::secret::{Secrets, Vault};
use crate::store::records::Records;

/// Opens every credential with `vault`, and encrypts with its first key those that an older key opened.
///
/// # Errors
/// When the store cannot be read.
pub(super) async fn open(records: &Records, vault: &Vault, clock: &dyn Clock) -> Result<Stored, BuildError> {
    let all = records.credentials().await.map_err(because("the credentials"))?;
    let mut stored = Stored::new();
    for record in all {
        let name = record.name.clone();
        let opened = match vault.open(&record.token) {
            Ok(opened) => opened,
            Err(error) => {
                tracing::error!(credential = name, %error, "a stored credential cannot be opened");
                stored.insert(name, None);
                continue;
            }
        };
        if !opened.is_current {
            match vault.seal(&opened.secret, clock.now()) {
                Ok(token) => match records.rotate_credential(record, token, clock.now()).await {
                    Ok(_) => {
                        tracing::warn!(credential = name, "a credential is encrypted with the new key now")
                    }
                    Err(error) => {
                        tracing::error!(credential = name, %error, "a credential keeps its old key")
                    }
                },
                Err(error) => tracing::error!(credential = name, %error, "a credential keeps its old key"),
            }
        }
        stored.insert(name, Some(opened.secret));
    }
    Ok(stored)
}

/// The config with what it takes from the store; whatever is stored is in force and kept out of logs from here on.
pub(super) async fn with_credentials(
    config: Config,
    secrets: &Secrets,
    records: &Records,
    clock: &dyn Clock,
    options: &ServeOptions,
) -> Result<Config, Refusal> {
    let stored = open(records, &config.vault, clock).await;
    let stored = stored.map_err(|error| Refusal(error.to_string()))?;
    secrets.replace_stored(stored.clone());
    if config.wanted.is_empty() {
        return Ok(config);
    }
    let (config, _) = load_config_with(&options.config_file, &options.env, &options.overrides, Some(&stored))
        .map_err(Refusal)?;
    secrets.replace_config(config.secrets.clone(), config.hidden.clone());
    Ok(config)
}

/// Reads the config, and where it takes something from the store, once more with that. Off the runtime's threads: a
/// program may be asked for a secret.
pub(super) async fn read_again(
    records: &Records,
    clock: &dyn Clock,
    options: &ServeOptions,
) -> Result<(Config, Vec<Problem>), String> {
    let read = |options: ServeOptions, stored: Option<Stored>| {
        tokio::task::spawn_blocking(move || {
            let ServeOptions { config_file, env, overrides, .. } = &options;
            load_config_with(config_file, env, overrides, stored.as_ref())
        })
    };
    let lost = |error| format!("the config could not be read: {error}");
    let first = read(options.clone(), None).await.map_err(lost)??;
    if first.0.wanted.is_empty() {
        return Ok(first);
    }
    let stored = open(records, &first.0.vault, clock).await;
    let stored = stored.map_err(|error| error.to_string())?;
    read(options.clone(), Some(stored)).await.map_err(lost)?
}
