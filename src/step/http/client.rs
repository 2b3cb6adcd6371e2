//! The one HTTP client of this room, built once at the start.
//!
//! May import: `model`, `outgoing`. Must never: fail to start because TLS has no certificates.

use super::super::lock;
use super::super::outgoing::is_guarded;
use super::retry_after;
use crate::model::Timestamp;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::HeaderValue;
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, ClientBuilder, Url};
use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How much of an answer to a post is read, in bytes.
const WORDS_MAX: usize = 400;

/// Why no client could be built.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client could not be built, not even without certificates")]
pub struct HttpClientError(#[source] reqwest::Error);

/// The client of `http` steps and of PromQL queries. Cheap to clone.
#[derive(Debug, Clone)]
pub struct HttpClient {
    client: Client,
    pins: Pins,
    problem: Option<String>,
}

impl HttpClient {
    /// Builds the client. Where the system has no certificates, plain http still works and [`Self::problem`] says so.
    ///
    /// # Errors
    /// [`HttpClientError`] when it cannot be built even so.
    pub fn build() -> Result<Self, HttpClientError> {
        let pins = Pins::default();
        match builder(&pins).build() {
            Ok(client) => Ok(Self { client, pins, problem: None }),
            Err(cause) => Self::without_certificates(&cause),
        }
    }

    fn without_certificates(cause: &dyn Error) -> Result<Self, HttpClientError> {
        let pins = Pins::default();
        let client = builder(&pins)
            .tls_certs_only(std::iter::empty::<Certificate>())
            .build()
            .map_err(HttpClientError)?;
        let problem =
            Some(format!("every https request will fail: {}; install ca-certificates", chain(cause)));
        Ok(Self { client, pins, problem })
    }

    /// What does not work, to be logged once at the start.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    pub(in super::super) fn inner(&self) -> &Client {
        &self.client
    }

    /// Sends one POST to an address that a person wrote, within `within`, and reads the beginning of the answer.
    ///
    /// # Errors
    /// A sentence without path, query or headers, when there was no answer.
    pub async fn post(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
        within: Duration,
        now: Timestamp,
    ) -> Result<Posted, String> {
        let url = super::parse_url(url)?;
        let mut request = self.client.post(url.clone()).timeout(within).body(body);
        for (name, value) in headers {
            let mut value = HeaderValue::from_str(value)
                .map_err(|_| format!("the value of the header {name} cannot be sent"))?;
            value.set_sensitive(true);
            request = request.header(*name, value);
        }
        let mut response = request.send().await.map_err(|cause| describe(cause, &url))?;
        let (status, retry_after) = (response.status().as_u16(), retry_after::of(response.headers(), now));
        let mut words = Vec::new();
        // The status is what counts; how far its words can be read does not.
        while let Ok(Some(chunk)) = response.chunk().await {
            words.extend_from_slice(&chunk[..chunk.len().min(WORDS_MAX - words.len())]);
            if words.len() == WORDS_MAX {
                break;
            }
        }
        Ok(Posted { status, retry_after, words: String::from_utf8_lossy(&words).into_owned() })
    }

    /// GETs a document of at most `most` bytes from an address that a person wrote, within `within`.
    ///
    /// # Errors
    /// A sentence without path, query or headers: no answer, another status than 200, or too long a document.
    pub async fn get(&self, url: &str, within: Duration, most: usize) -> Result<Vec<u8>, String> {
        let url = Url::parse(url).map_err(|cause| format!("the url cannot be read: {cause}"))?;
        let request = self.client.get(url.clone()).timeout(within);
        let mut response = request.send().await.map_err(|cause| describe(cause, &url))?;
        if response.status().as_u16() != 200 {
            return Err(format!("it answers {}", response.status().as_u16()));
        }
        let mut document = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|cause| describe(cause, &url))? {
            if document.len() + chunk.len() > most {
                return Err(format!("its answer is longer than {most} bytes"));
            }
            document.extend_from_slice(&chunk);
        }
        Ok(document)
    }

    /// Makes `host` mean exactly these addresses for as long as the pin lives.
    pub(super) fn pin(&self, host: &str, addresses: Vec<IpAddr>) -> Pin {
        let mut pins = lock(&self.pins.0);
        let entry = pins.entry(host.to_owned()).or_default();
        entry.users += 1;
        entry.addresses = addresses;
        Pin { host: host.to_owned(), pins: self.pins.clone() }
    }
}

/// What was answered to [`HttpClient::post`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posted {
    /// The status.
    pub status: u16,
    /// How long it asks to wait; at most a day.
    pub retry_after: Option<Duration>,
    /// The beginning of the body.
    pub words: String,
}

fn builder(pins: &Pins) -> ClientBuilder {
    Client::builder()
        .user_agent(concat!("runbookd/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .no_proxy()
        .pool_max_idle_per_host(0)
        .dns_resolver(pins.clone())
}

/// Names whose addresses were checked, with the addresses that may be connected to. All of them were allowed, so it
/// does no harm when two requests to one host share the later list.
#[derive(Debug, Clone, Default)]
struct Pins(Arc<Mutex<HashMap<String, Pinned>>>);

#[derive(Debug, Default)]
struct Pinned {
    users: usize,
    addresses: Vec<IpAddr>,
}

/// Keeps a host pinned.
#[derive(Debug)]
pub(super) struct Pin {
    host: String,
    pins: Pins,
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut pins = lock(&self.pins.0);
        if let Some(pinned) = pins.get_mut(&self.host) {
            pinned.users -= 1;
            if pinned.users == 0 {
                pins.remove(&self.host);
            }
        }
    }
}

impl Resolve for Pins {
    fn resolve(&self, name: Name) -> Resolving {
        let pinned = lock(&self.0).get(name.as_str()).map(|pinned| pinned.addresses.clone());
        Box::pin(async move {
            // Port 0 means the port of the url.
            let addresses: Vec<SocketAddr> = match pinned {
                Some(addresses) => addresses.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect(),
                None => {
                    no_surprise(name.as_str(), tokio::net::lookup_host((name.as_str(), 0)).await?.collect())?
                }
            };
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// The addresses of a name that a person wrote. Whoever answers for the name could otherwise point it at what the
/// machine tells about itself; who means such an address writes it.
fn no_surprise(name: &str, addresses: Vec<SocketAddr>) -> io::Result<Vec<SocketAddr>> {
    match addresses.iter().find(|address| is_guarded(address.ip())) {
        None => Ok(addresses),
        Some(address) => Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("{name} leads to {}, which is link-local or of a metadata service", address.ip()),
        )),
    }
}

/// What went wrong, without path, query or headers, which may hold secrets.
pub(in super::super) fn describe(cause: reqwest::Error, url: &Url) -> String {
    let authority =
        format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default());
    let what = if cause.is_connect() {
        "could not connect to"
    } else if cause.is_body() || cause.is_decode() {
        "the answer broke off from"
    } else {
        "no answer from"
    };
    format!("{what} {authority}: {}", chain(&cause.without_url()))
}

fn chain(cause: &dyn Error) -> String {
    let mut words = vec![cause.to_string()];
    let mut next = cause.source();
    while let Some(inner) = next {
        let text = inner.to_string();
        if words.last() != Some(&text) {
            words.push(text);
        }
        next = inner.source();
    }
    words.join(": ").chars().take(400).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t10_a_name_that_a_person_wrote_never_leads_to_what_the_machine_tells_of_itself() {
        let at = |ips: &[&str]| ips.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).collect();
        for good in [&["192.0.2.1", "2001:db8::1"][..], &["127.0.0.1", "::1"], &["10.0.0.1"], &[]] {
            assert_eq!(no_surprise("a.test", at(good)).unwrap().len(), good.len());
        }
        for bad in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "fd00:ec2::254",
            "fe80::1",
            "0.0.0.0",
            "100.100.100.200",
        ] {
            let refused = no_surprise("a.test", at(&["192.0.2.1", bad])).unwrap_err();
            assert!(refused.to_string().starts_with("a.test leads to "), "{bad}: {refused}");
        }
    }

    #[test]
    fn without_certificates_there_is_a_client_that_says_what_will_fail() {
        let cause = std::io::Error::other("no certificates");
        let client = HttpClient::without_certificates(&cause).unwrap();
        assert!(client.problem().unwrap().contains("every https request will fail: no certificates"));
    }

    #[tokio::test]
    async fn a_pinned_name_resolves_to_the_checked_addresses_until_the_last_pin_is_gone() {
        let client = HttpClient::build().unwrap();
        let resolve = || client.pins.resolve("localhost".parse().unwrap());
        let pin = client.pin("localhost", vec!["127.9.9.9".parse().unwrap()]);
        let second = client.pin("localhost", vec!["127.9.9.9".parse().unwrap()]);
        drop(pin);
        assert_eq!(resolve().await.unwrap().collect::<Vec<_>>(), ["127.9.9.9:0".parse().unwrap()]);
        drop(second);
        assert!(!resolve().await.unwrap().any(|address| address.ip().to_string() == "127.9.9.9"));
    }
}
