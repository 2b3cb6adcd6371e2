//! `[server]`: the address, what may come in, and how it ends.
//!
//! May import: `model`, `document`. Must never: bind the address.

use super::network::{UrlError, parse_listen, parse_server_url};
use super::source::{Section, Setting, Source, Sources};
use super::tls::Tls;
use crate::document::{Table, Value};
use crate::model::Network;
use std::net::SocketAddr;
use std::time::Duration;

/// `[server]` after checking.
#[derive(Debug, Clone)]
pub struct Server {
    /// Where to listen; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// How people reach it, without a final slash, if that was said; see [`Server::external_url`].
    pub given_external_url: Option<String>,
    /// TLS, if it is asked for here.
    pub tls: Option<Tls>,
    /// Only these may set `X-Forwarded-For` and `-Proto`.
    pub trusted_proxies: Vec<Network>,
    /// Largest body of a request, 1 KiB to 1 GiB, in bytes.
    pub max_body: u64,
    /// Connections served at once, 1 to 65,536.
    pub max_connections: usize,
    /// Of those, from one address (an IPv6 network of 64 bits counts as one), 1 to 65,536. Trusted proxies are exempt.
    pub max_connections_per_peer: usize,
    /// How long steps in progress may go on after SIGTERM, at most an hour.
    pub drain_timeout: Duration,
}

impl Server {
    /// How people reach it, without a final slash. `bound` is the address really bound: its port is the real
    /// one where `listen` asked for port 0; `https` says whether TLS is spoken there.
    pub fn external_url(&self, bound: SocketAddr, https: bool) -> String {
        let scheme = if https { "https" } else { "http" };
        self.given_external_url.clone().unwrap_or_else(|| format!("{scheme}://{bound}"))
    }

    /// Reads the section; also gives `listen` with its place, for the checks of exposure.
    pub(super) fn read<'d>(sources: &Sources<'d>, root: &mut Table<'d>) -> (Self, Setting<SocketAddr>) {
        let mut section = Section::open(sources, root, "server");
        let listen = section.setting(
            "listen",
            || SocketAddr::from(([127, 0, 0, 1], 9796)),
            ToString::to_string,
            |value, _| {
                let help = "write IP:PORT such as \"127.0.0.1:9796\", or :PORT for every IPv4 address";
                value.parsed(help, parse_listen)
            },
        );
        let given_external_url = external_url(&mut section, listen.value);
        let proxy_help = "write addresses and networks, such as [\"192.0.2.1\", \"10.0.0.0/8\"]";
        let server = Self {
            listen: listen.value,
            given_external_url,
            tls: Tls::read(&mut section),
            trusted_proxies: section
                .list(
                    "trusted_proxies",
                    Vec::new,
                    |network: &Network| format!("{:?}", network.to_string()),
                    |value| value.parsed(proxy_help, Network::parse),
                )
                .value,
            max_body: section
                .setting(
                    "max_body",
                    || 32 << 20,
                    |size| show_size(*size),
                    |value, _| value.size(1 << 10..=1 << 30),
                )
                .value,
            max_connections: section.number("max_connections", 1024, 1..=65_536),
            max_connections_per_peer: section.number("max_connections_per_peer", 512, 1..=65_536),
            drain_timeout: section.duration(
                "drain_timeout",
                Duration::from_secs(30),
                Duration::ZERO..=Duration::from_secs(3600),
            ),
        };
        section.finish();
        (server, listen)
    }
}

fn external_url(section: &mut Section<'_, '_>, listen: SocketAddr) -> Option<String> {
    let sources = section.sources;
    let show = |url: &Option<String>| url.clone().unwrap_or_else(|| format!("http://{listen}"));
    section
        .setting("external_url", || None, show, |value, source| server_url(sources, &value, source).map(Some))
        .value
}

/// Reads a server's URL; one that holds a password is not shown again.
pub(super) fn server_url(sources: &Sources<'_>, value: &Value<'_>, source: Source) -> Option<String> {
    let text = value.string()?;
    match parse_server_url(&text.value) {
        Ok(url) => Some(url),
        Err(error) => {
            if source == Source::File && !matches!(error, UrlError::Scheme(_)) {
                sources.mask(value.span());
            }
            value.error(error.to_string(), "write a URL such as \"http://127.0.0.1:9090\"");
            None
        }
    }
}

/// A size in the largest unit that divides it.
fn show_size(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units.into_iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit));
    unit.map_or_else(|| bytes.to_string(), |(unit, name)| format!("{}{name}", bytes / unit))
}
