//! From the config to who may come in: the accounts, the issuer's keys, and the policy of the edge.

use super::build::{self, BuildError, because};
use crate::auth::{
    Auth, Expected, KeyServer, PasswordHash, People, Permission, Permissions, Roles, Signer, Stored,
    Verifier, VerifyingKey, WebhookAuth, WebhookCredential,
};
use crate::config::{Config, Jwt, JwtKey};
use crate::http::Forbidden;
use crate::http::handler::refusal_of;
use crate::identity::{Accounts, DevIssuer, Identity, Jwks, JwksSettings, Parts, User};
use crate::model::Clock;
use crate::routing::Library;
use crate::step::HttpClient;
use crate::store::records::Records;
use crate::telemetry::Metrics;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Who may come in, as the config in force says.
pub(super) struct Door {
    identity: Identity,
    client: HttpClient,
    issuer: Mutex<Option<Arc<Jwks>>>,
}

/// What a config says of it, built but not in force.
pub(super) struct Opening {
    auth: Auth,
    accounts: Accounts,
    issuer: Option<Arc<Jwks>>,
}

impl Door {
    /// A door that nobody can open yet: the accounts come with the config.
    pub(super) fn new(
        records: &Records,
        clock: &Arc<dyn Clock>,
        metrics: &Metrics,
        library: &Arc<RwLock<Arc<Library>>>,
        client: HttpClient,
    ) -> Self {
        let library = Arc::clone(library);
        let parts = Parts {
            records: records.clone(),
            clock: Arc::clone(clock),
            metrics: metrics.clone(),
            is_runbook: Box::new(move |id| {
                library.read().unwrap_or_else(PoisonError::into_inner).get(id).is_some()
            }),
        };
        let identity = Identity::new(parts, Accounts::default());
        Self { identity, client, issuer: Mutex::new(None) }
    }

    /// Who is who.
    pub(super) fn identity(&self) -> Identity {
        self.identity.clone()
    }

    /// What `config` says. An issuer that stays keeps the keys that were fetched.
    pub(super) fn prepare(&self, config: &Config, bound: SocketAddr) -> Result<Opening, BuildError> {
        let issuer = config.auth.jwt.as_ref().and_then(|jwt| self.issuer(jwt));
        let tokens = match &config.auth.jwt {
            Some(jwt) => Some(verifier(config, jwt, issuer.clone())?),
            None => None,
        };
        let people = match (tokens, &config.auth.users) {
            // Whoever names users means that nobody else comes in.
            (None, None) if build::has_users(config) => People::NotConfigured,
            // Checked by the config already; asked again here, because this opens everything.
            (None, None) if config.server.listen.ip().is_loopback() => People::Open,
            (None, None) => People::NotConfigured,
            (tokens, _) => {
                let stored: Arc<dyn Stored> = Arc::new(self.identity.clone());
                People::Known { tokens, stored: Some(stored) }
            }
        };
        let auth = Auth {
            people,
            roles: Roles::new(own_roles(config)).map_err(because("[auth.roles]"))?,
            webhook: webhook(config),
            origin: Some(origin(&build::external_url(config, bound))),
        };
        Ok(Opening { auth, accounts: accounts(config)?, issuer })
    }

    /// Puts it in force, all but the policy, which is for the edge.
    pub(super) fn open(&self, opening: Opening) -> Auth {
        self.identity.reconfigure(opening.accounts);
        *self.issuer.lock().unwrap_or_else(PoisonError::into_inner) = opening.issuer;
        opening.auth
    }

    fn issuer(&self, jwt: &Jwt) -> Option<Arc<Jwks>> {
        let JwtKey::Served { url, refresh, max_age } = &jwt.key else { return None };
        let settings = JwksSettings { url: url.clone(), refresh: *refresh, max_age: *max_age };
        let known = self.issuer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let same = known.filter(|known| *known.settings() == settings);
        Some(same.unwrap_or_else(|| Jwks::start(settings, self.client.clone())))
    }
}

fn verifier(config: &Config, jwt: &Jwt, issuer: Option<Arc<Jwks>>) -> Result<Verifier, BuildError> {
    let expected = Expected {
        issuer: Some(jwt.issuer.clone()),
        audience: Some(jwt.audience.clone()),
        roles_claim: config.auth.roles_claim.clone(),
    };
    let key = match (&jwt.key, issuer) {
        (_, Some(issuer)) => {
            let server: Arc<dyn KeyServer> = issuer;
            return Ok(Verifier::served(server, expected));
        }
        (JwtKey::PublicKey(pem), None) => VerifyingKey::public_pem(pem),
        (JwtKey::Secret(secret), None) => VerifyingKey::secret(secret),
        (JwtKey::Served { .. }, None) => Err(crate::auth::KeyError::NoKey),
    };
    let key = key.map_err(because("[auth] jwt"))?;
    Verifier::new(vec![key], expected).map_err(because("[auth] jwt"))
}

fn own_roles(config: &Config) -> BTreeMap<String, Permissions> {
    let roles = config.auth.roles.iter().map(|(role, permissions)| {
        let words: Vec<Permission> = permissions.iter().copied().collect();
        (role.clone(), Permissions::of(&words))
    });
    roles.collect()
}

fn webhook(config: &Config) -> WebhookAuth {
    let bearer = config.webhook.bearer.iter().cloned().map(WebhookCredential::Bearer);
    let basic = config
        .webhook
        .basic
        .iter()
        .map(|basic| WebhookCredential::Basic { user: basic.user.clone(), password: basic.password.clone() });
    let credentials: Vec<WebhookCredential> = bearer.chain(basic).collect();
    let open = config.webhook.allow_unauthenticated && config.server.listen.ip().is_loopback();
    WebhookAuth::new(&credentials, open)
}

/// Who has a password, and what follows from it.
fn accounts(config: &Config) -> Result<Accounts, BuildError> {
    let mut users = BTreeMap::new();
    for user in config.auth.users.iter().flatten() {
        let hash = PasswordHash::parse(&user.password_hash).map_err(because("[auth] users_file"))?;
        users.insert(user.name.clone(), User { hash, roles: user.roles.clone() });
    }
    let dev = match &config.auth.jwt {
        Some(Jwt { key: JwtKey::Secret(secret), issuer, audience })
            if config.auth.dev_login && config.server.listen.ip().is_loopback() =>
        {
            Some(DevIssuer {
                signer: Signer::secret(secret).map_err(because("[auth] dev_login"))?,
                issuer: issuer.clone(),
                audience: audience.clone(),
                roles_claim: config.auth.roles_claim.clone(),
            })
        }
        _ => None,
    };
    Ok(Accounts {
        users,
        signup: config.auth.signup,
        session_idle: config.auth.session_idle,
        session_max: config.auth.session_max,
        dev,
    })
}

/// The origin of a URL: scheme, host and port, as a browser names it.
fn origin(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let host = rest.split('/').next().unwrap_or_default();
    let usual = if scheme == "https" { ":443" } else { ":80" };
    format!("{scheme}://{}", host.strip_suffix(usual).unwrap_or(host))
}

/// Notes for a runbook's history that somebody was refused.
pub(super) fn note(identity: &Identity, refused: Forbidden<'_>) {
    if let Some(refusal) = refusal_of(refused) {
        identity.refused(refusal);
    }
}

#[cfg(test)]
mod tests {
    use super::origin;

    #[test]
    fn an_origin_is_what_a_browser_sends() {
        for (url, expected) in [
            ("http://127.0.0.1:9796", "http://127.0.0.1:9796"),
            ("https://runbookd.example.org:443/base/", "https://runbookd.example.org"),
            ("https://runbookd.example.org:80", "https://runbookd.example.org:80"),
            ("http://runbookd:80/", "http://runbookd"),
        ] {
            assert_eq!(origin(url), expected);
        }
    }
}
