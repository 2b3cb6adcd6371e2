//! Which address a request really comes from, when there is a proxy in front.
//!
//! Only a peer listed as trusted may say so; the client is then the right-most hop that is not trusted itself,
//! because everything left of it is what that hop claims. May import: `model`. Must never:
//! believe a header of an unlisted peer.

use crate::model::Network;
use hyper::header::HeaderMap;
use std::net::{IpAddr, SocketAddr};

/// The proxies that may set `X-Forwarded-For` and `X-Forwarded-Proto`.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Vec<Network>);

impl TrustedProxies {
    /// These.
    pub fn new(networks: Vec<Network>) -> Self {
        Self(networks)
    }

    /// Whether it is one of them; `address` in its canonical form.
    pub(super) fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }

    /// The client's address, and whether it spoke HTTPS to the proxy.
    pub(super) fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> (IpAddr, bool) {
        let peer = peer.ip().to_canonical();
        if !self.trusts(peer) {
            return (peer, false);
        }
        let mut client = peer;
        let values: Vec<_> = headers.get_all("x-forwarded-for").iter().collect();
        'hops: for value in values.into_iter().rev() {
            for hop in value.to_str().unwrap_or("").rsplit(',') {
                let Some(address) = read_hop(hop.trim()) else { break 'hops };
                client = address;
                if !self.trusts(address) {
                    break 'hops;
                }
            }
        }
        let proto = headers.get_all("x-forwarded-proto").iter().next_back();
        let last = proto.and_then(|value| value.to_str().ok()).and_then(|list| list.rsplit(',').next());
        (client, last.is_some_and(|proto| proto.trim().eq_ignore_ascii_case("https")))
    }
}

/// An address with or without a port, in brackets or not.
fn read_hop(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(hop);
    let address = bare.parse::<IpAddr>().ok();
    address.or_else(|| hop.parse::<SocketAddr>().ok().map(|at| at.ip())).map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusting(networks: &[&str]) -> TrustedProxies {
        TrustedProxies::new(networks.iter().map(|text| Network::parse(text).unwrap()).collect())
    }

    #[test]
    fn the_client_is_the_right_most_hop_that_is_not_trusted() {
        let trusted = trusting(&["10.0.0.0/8", "::1", "192.0.2.7"]);
        let cases: &[(&str, &[&str], &str)] = &[
            // An unlisted peer may say what it likes.
            ("198.51.100.1", &[], "198.51.100.1"),
            ("198.51.100.1", &["10.0.0.1"], "198.51.100.1"),
            ("198.51.100.1", &["127.0.0.1, 10.0.0.1"], "198.51.100.1"),
            // A listed one is believed, as far as the hops are listed.
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.5"], "203.0.113.5"),
            ("10.0.0.1", &["127.0.0.1, 203.0.113.5"], "203.0.113.5"),
            ("10.0.0.1", &["1.1.1.1, 203.0.113.5, 10.9.9.9"], "203.0.113.5"),
            ("10.0.0.1", &["1.1.1.1", "203.0.113.5"], "203.0.113.5"),
            ("10.0.0.1", &["1.1.1.1", "203.0.113.5, 192.0.2.7"], "203.0.113.5"),
            ("10.0.0.1", &["10.1.1.1, 10.2.2.2"], "10.1.1.1"),
            ("::1", &["2001:db8::5"], "2001:db8::5"),
            ("::ffff:10.0.0.1", &["203.0.113.5:4711"], "203.0.113.5"),
            ("10.0.0.1", &["[2001:db8::5]:80"], "2001:db8::5"),
            ("10.0.0.1", &["[2001:db8::5]"], "2001:db8::5"),
            ("10.0.0.1", &["::ffff:203.0.113.5"], "203.0.113.5"),
            // What cannot be read ends the walk at the last hop that could.
            ("10.0.0.1", &["203.0.113.5, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["unknown, 10.2.2.2"], "10.2.2.2"),
            ("10.0.0.1", &[""], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.5,"], "10.0.0.1"),
        ];
        for (peer, headers, expected) in cases {
            let mut map = HeaderMap::new();
            for value in *headers {
                map.append("x-forwarded-for", value.parse().unwrap());
            }
            let peer = SocketAddr::new(peer.parse().unwrap(), 1234);
            let (client, _) = trusted.client(peer, &map);
            assert_eq!(client, expected.parse::<IpAddr>().unwrap(), "{peer} {headers:?}");
        }
    }

    #[test]
    fn only_a_trusted_peer_may_say_that_the_client_spoke_https() {
        let trusted = trusting(&["10.0.0.0/8"]);
        for (peer, proto, expected) in [
            ("10.0.0.1", "https", true),
            ("10.0.0.1", "http, HTTPS", true),
            ("10.0.0.1", "https, http", false),
            ("10.0.0.1", "httpsx", false),
            ("11.0.0.1", "https", false),
        ] {
            let map = HeaderMap::from_iter([("x-forwarded-proto".parse().unwrap(), proto.parse().unwrap())]);
            let (_, https) = trusted.client(SocketAddr::new(peer.parse().unwrap(), 1), &map);
            assert_eq!(https, expected, "{peer} {proto}");
        }
    }
}
