//! From the config to the rooms.

use crate::auth::Failure;
use crate::config::{
    AlertmanagerAuth, ClientCertificate, Config, EmailTls, MappingSource, Notifier, PolicyLevel,
};
use crate::http::{ClientAuth, Doors, Forbidden, Limits, Observer, Rates, TlsFiles, TlsVersion, Users};
use crate::identity::Identity;
use crate::intake;
use crate::notifier::{self, Book, Channel, NotifierMessenger, Notifiers};
use crate::report::Level;
use crate::routing::{Mapping, Rules, Source};
use crate::schedule::Schedule;
use crate::secret::Secrets;
use crate::step::{AlertmanagerClient, Credential, HttpClient, OutgoingPolicy, PromClient, Ways};
use crate::telemetry::{AuthFailure, Metrics};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Why the rooms cannot be built from a config that reads well.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {why}")]
pub(super) struct BuildError {
    what: &'static str,
    why: String,
}

pub(super) fn because<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> BuildError {
    move |error| BuildError { what, why: error.to_string() }
}

/// The webhook's path, by which its metrics are told from those of people's requests.
const WEBHOOK: &str = "/api/sre/alerts/webhook";

/// Whether people come in by `--web.config.file`.
pub(super) fn has_users(config: &Config) -> bool {
    config.web.as_ref().is_some_and(|web| !web.users.is_empty())
}

/// What decides who comes in beside the credentials.
pub(super) fn doors(config: &Config) -> Doors {
    let users = config.web.as_ref().map(|web| web.users.clone()).filter(|users| !users.is_empty());
    Doors {
        webhook_sans: config.webhook.client_cert_sans.clone(),
        users: users.map(|users| Arc::new(Users::new(users))),
        rates: Some(Rates {
            per_minute: config.http_limits.per_minute,
            execute_per_minute: config.http_limits.execute_per_minute,
        }),
        headers: config.web.as_ref().map(|web| web.headers.clone()).unwrap_or_default(),
    }
}

pub(super) fn external_url(config: &Config, bound: SocketAddr) -> String {
    config.server.external_url(bound, config.tls().is_some())
}

/// Where the certificate is, and what is asked of clients.
pub(super) fn tls_files(config: &Config) -> Option<TlsFiles> {
    let tls = config.tls()?;
    Some(TlsFiles {
        cert_file: tls.cert_file.clone(),
        key_file: tls.key_file.clone(),
        client_ca: tls.client_ca.clone().map(|(file, asked)| {
            let auth = match asked {
                ClientCertificate::IfGiven => ClientAuth::IfGiven,
                ClientCertificate::Required => ClientAuth::Required,
            };
            (file, auth)
        }),
        client_sans: tls.client_allowed_sans.clone(),
        min_version: if tls.only_13 { TlsVersion::Tls13 } else { TlsVersion::Tls12 },
        http2: has_http2(config),
    })
}

fn has_http2(config: &Config) -> bool {
    config.web.as_ref().is_none_or(|web| web.http2)
}

/// What the engine is told of the config.
pub(super) fn engine_limits(config: &Config) -> crate::engine::Limits {
    crate::engine::Limits {
        queue_deadline: config.automation.queue_deadline,
        queue_limit: config.automation.queue_limit,
        breakers: config.breakers.clone(),
        guard: config.automation.guard.clone(),
        freezes: config.freezes.clone(),
        storm: config.automation.storm,
    }
}

/// What intake goes by.
pub(super) fn intake_options(config: &Config, instance: &str) -> intake::Options {
    let mappings = config.mappings.iter().map(|mapping| Mapping {
        name: mapping.name.clone(),
        matchers: mapping.matchers.clone(),
        runbook: mapping.runbook.clone(),
    });
    let order = config.automation.mapping_order.iter().map(|source| match source {
        MappingSource::Config => Source::Config,
        MappingSource::Annotation => Source::Annotation,
        MappingSource::Runbook => Source::Runbook,
    });
    intake::Options {
        rules: Rules { mappings: mappings.collect(), order: order.collect() },
        episode_ttl: config.automation.episode_ttl,
        queue_deadline: config.automation.queue_deadline,
        queue_limit: config.automation.queue_limit,
        breakers: config.breakers.clone(),
        guard: config.automation.guard.clone(),
        storm: config.automation.storm,
        freezes: config.freezes.clone(),
        has_alertmanager: config.alertmanager.is_some(),
        instance: instance.to_owned(),
    }
}

/// What runs by the clock.
pub(super) fn schedules(config: &Config) -> impl Iterator<Item = Schedule> {
    config.schedules.iter().map(|entry| entry.schedule.clone())
}

/// The limits of the edge.
pub(super) fn limits(config: &Config) -> Limits {
    Limits {
        max_webhook_body: config.server.max_body,
        max_connections: config.server.max_connections,
        max_connections_per_peer: config.server.max_connections_per_peer,
        http2: has_http2(config),
        ..Limits::default()
    }
}

/// Where templated requests may lead.
pub(super) fn outgoing(config: &Config) -> Result<OutgoingPolicy, BuildError> {
    let entries = config.outgoing.allow.iter().map(|allowed| OutgoingPolicy::parse_entry(&allowed.text));
    let entries = entries.collect::<Result<_, _>>().map_err(because("[outgoing] allow"))?;
    Ok(OutgoingPolicy::new(entries))
}

/// The ways to people, and who is behind which name.
pub(super) fn notifiers(config: &Config, client: &HttpClient, bound: SocketAddr) -> Result<Book, BuildError> {
    let mut book = Book { external_url: external_url(config, bound), ..Book::default() };
    for (name, notifier) in &config.people.notifiers {
        let channel = channel(notifier, client)?;
        book.directory.notifiers.insert(name.clone(), channel.resolves());
        book.channels.insert(name.clone(), channel);
    }
    let level = |level: &PolicyLevel| Level { after: level.after, to: level.to.clone() };
    book.directory.policies = config
        .people
        .policies
        .iter()
        .map(|(name, levels)| (name.clone(), levels.iter().map(level).collect()))
        .collect();
    book.directory.escalate_to.clone_from(&config.automation.escalate_to);
    Ok(book)
}

/// Carries the messages of an execution without a server.
pub(super) fn messenger(config: &Config, client: &HttpClient) -> Result<NotifierMessenger, BuildError> {
    Ok(NotifierMessenger {
        notifiers: Notifiers::new(notifiers(config, client, config.server.listen)?),
        clock: Arc::new(super::SystemClock),
        metrics: None,
    })
}

fn channel(notifier: &Notifier, client: &HttpClient) -> Result<Channel, BuildError> {
    let client = client.clone();
    Ok(match notifier {
        Notifier::Slack { url } => Channel::Slack(notifier::Slack { client, url: url.clone() }),
        Notifier::PagerDuty { routing_key, url } => Channel::PagerDuty(notifier::PagerDuty {
            client,
            routing_key: routing_key.clone(),
            url: url.clone(),
        }),
        Notifier::Webhook { url, secret } => {
            Channel::Webhook(notifier::Webhook { client, url: url.clone(), secret: secret.clone() })
        }
        Notifier::Alertmanager { url, auth } => Channel::Alertmanager(notifier::Alertmanager {
            client,
            url: url.clone(),
            credential: auth.as_ref().map(|auth| match auth {
                AlertmanagerAuth::Bearer(token) => notifier::Credential::Bearer(token.clone()),
                AlertmanagerAuth::Basic(basic) => {
                    notifier::Credential::Basic { user: basic.user.clone(), password: basic.password.clone() }
                }
            }),
        }),
        Notifier::Email(email) => {
            let mail = notifier::Mail {
                host: email.host.clone(),
                port: email.port,
                tls: match email.tls {
                    EmailTls::Tls => notifier::Tls::Tls,
                    EmailTls::StartTls => notifier::Tls::StartTls,
                    EmailTls::None => notifier::Tls::None,
                },
                auth: email.auth.as_ref().map(|basic| (basic.user.clone(), basic.password.clone())),
                from: email.from.clone(),
                to: email.to.clone(),
            };
            let email = notifier::Email::new(&mail).map_err(because("[notifiers] email"))?;
            Channel::Email(Box::new(email))
        }
    })
}

/// What steps reach: the configured Prometheus and Alertmanager, and the secrets.
pub(super) fn ways(
    config: &Config,
    client: &HttpClient,
    messenger: NotifierMessenger,
    secrets: Secrets,
) -> Result<Ways, BuildError> {
    Ok(Ways {
        clock: Arc::new(super::SystemClock),
        prometheus: prometheus(config, client)?,
        alertmanager: alertmanager(config, client)?,
        messenger: Some(Arc::new(messenger)),
        secrets,
    })
}

/// The client of the configured Alertmanagers.
fn alertmanager(config: &Config, client: &HttpClient) -> Result<Option<AlertmanagerClient>, BuildError> {
    let Some(section) = &config.alertmanager else { return Ok(None) };
    let credential = section.auth.as_ref().map(|auth| match auth {
        AlertmanagerAuth::Bearer(token) => Credential::Bearer(token.clone()),
        AlertmanagerAuth::Basic(basic) => {
            Credential::Basic { user: basic.user.clone(), password: basic.password.clone() }
        }
    });
    AlertmanagerClient::new(client.clone(), &section.urls, credential.as_ref(), &section.headers)
        .map(Some)
        .map_err(because("[alertmanager]"))
}

/// The client of the configured Prometheus.
fn prometheus(config: &Config, client: &HttpClient) -> Result<Option<PromClient>, BuildError> {
    let url = config.prometheus.as_ref().map(|prometheus| prometheus.url.as_str());
    url.map(|url| PromClient::new(client.clone(), url).map_err(because("[prometheus] url"))).transpose()
}

/// The config as `GET /api/config` shows it.
pub(super) fn config_items(config: &Config) -> serde_json::Value {
    let item = |item: crate::config::Item| serde_json::json!({ "name": item.name, "value": item.value, "from": item.from.as_str() });
    config.effective().into_iter().map(item).collect()
}

/// The edge's observer: metrics, and the histories of runbooks.
pub(super) struct EdgeMetrics {
    pub(super) metrics: Metrics,
    pub(super) clock: super::SystemClock,
    pub(super) identity: Identity,
}

impl Observer for EdgeMetrics {
    fn request(&self, route: &'static str, method: &'static str, code: u16, took: Duration) {
        self.metrics.http_answered(Some(route), method, code, took);
        if route == WEBHOOK {
            use crate::model::Clock as _;
            self.metrics.webhook_answered(code, took, self.clock.now());
        }
    }

    fn auth_failure(&self, reason: Failure) {
        self.metrics.auth_failed(match reason {
            Failure::Missing | Failure::NotConfigured => AuthFailure::Missing,
            Failure::Malformed | Failure::Several | Failure::TooLong | Failure::Claim => {
                AuthFailure::Malformed
            }
            Failure::Expired | Failure::NotYetValid => AuthFailure::Expired,
            Failure::Forbidden => AuthFailure::Forbidden,
            Failure::CrossSite => AuthFailure::CrossSite,
            Failure::Unavailable => AuthFailure::Unavailable,
            Failure::Algorithm
            | Failure::Signature
            | Failure::UnknownKey
            | Failure::Issuer
            | Failure::Audience
            | Failure::Credential => AuthFailure::Invalid,
        });
    }

    fn forbidden(&self, refused: Forbidden<'_>) {
        super::door::note(&self.identity, refused);
    }

    fn rate_limited(&self, route: &'static str) {
        self.metrics.rate_limited(route);
    }

    fn handler_panic(&self) {
        tracing::error!("a handler panicked; its request was answered 500");
    }
}
