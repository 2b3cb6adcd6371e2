//! Where a templated address may lead: `[outgoing] allow`.
//!
//! Pure: names are resolved by the caller, which asks again with every address found. Link-local and metadata
//! addresses, and those that are no place, are allowed by nothing but themselves; this machine by no name but its own. May import: nothing of this crate. Must never: resolve a name.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Metadata services that are not link-local: of EC2 and GCE over IPv6, and of Azure, Alibaba and Oracle.
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192)];

/// Why an entry cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an entry of an allow-list: {why}")]
pub struct EntryError {
    text: String,
    why: String,
}

/// One entry: a network, an address, a host or `*.suffix`, each with an optional `:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    place: Place,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Address(IpAddr),
    Network(IpAddr, u8),
    Host(String),
    /// With its leading dot.
    Suffix(String),
}

/// The allow-list. An empty one allows nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutgoingPolicy {
    entries: Vec<Entry>,
}

impl OutgoingPolicy {
    /// The policy of these entries.
    pub fn new(entries: Vec<Entry>) -> Self {
        Self { entries }
    }

    /// Reads one entry.
    ///
    /// # Errors
    /// [`EntryError`], with what would be right.
    pub fn parse_entry(text: &str) -> Result<Entry, EntryError> {
        parse(text).map_err(|why| EntryError { text: text.chars().take(120).collect(), why })
    }

    /// Whether an entry names this host, so that its addresses need not be listed (but see [`Self::allows_address`]).
    pub(super) fn allows_name(&self, name: &str, port: u16) -> bool {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        self.entries.iter().filter(|entry| entry.takes(port)).any(|entry| match &entry.place {
            Place::Host(host) => *host == name,
            Place::Suffix(suffix) => name.len() > suffix.len() && name.ends_with(suffix.as_str()),
            Place::Address(_) | Place::Network(..) => false,
        })
    }

    /// Whether a connection to `address` is allowed; `name` is the host it was found under, where an entry names it.
    pub(super) fn allows_address(&self, address: IpAddr, port: u16, name: Option<&str>) -> bool {
        let address = plain(address);
        // Whoever answers for a name could otherwise point it at what listens for this machine only.
        let by_name = name.is_some_and(|name| !address.is_loopback() || is_localhost(name));
        let mut entries = self.entries.iter().filter(|entry| entry.takes(port));
        if is_guarded(address) {
            return entries.any(|entry| entry.place == Place::Address(address));
        }
        by_name
            || entries.any(|entry| match &entry.place {
                Place::Address(listed) => *listed == address,
                Place::Network(network, bits) => contains(*network, *bits, address),
                Place::Host(_) | Place::Suffix(_) => false,
            })
    }
}

impl Entry {
    fn takes(&self, port: u16) -> bool {
        self.port.is_none_or(|own| own == port)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bracket = self.port.is_some();
        match &self.place {
            Place::Address(IpAddr::V6(v6)) if bracket => write!(f, "[{v6}]")?,
            Place::Address(address) => write!(f, "{address}")?,
            Place::Network(IpAddr::V6(v6), bits) if bracket => write!(f, "[{v6}/{bits}]")?,
            Place::Network(network, bits) => write!(f, "{network}/{bits}")?,
            Place::Host(host) => f.write_str(host)?,
            Place::Suffix(suffix) => write!(f, "*{suffix}")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// The IPv4 address inside an IPv6 one that is only another way to it: mapped, compatible, through NAT64 or 6to4.
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let octets = v6.octets();
    let at = match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => 12,
        // Neither `::` nor `::1`.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 || low > 1 => 12,
        [0x2002, ..] => 2,
        _ => return address.to_canonical(),
    };
    Ipv4Addr::new(octets[at], octets[at + 1], octets[at + 2], octets[at + 3]).into()
}

/// Whether nothing leads to an address but its own mention: link-local, of a metadata service, or no place.
pub(super) fn is_guarded(address: IpAddr) -> bool {
    let address = plain(address);
    let is_nowhere = address.is_unspecified() || address.is_multicast();
    is_nowhere
        || match address {
            IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast() || METADATA_V4.contains(&v4),
            IpAddr::V6(v6) => v6.is_unicast_link_local() || METADATA_V6.contains(&v6),
        }
}

/// Whether `name` means this machine and says so.
fn is_localhost(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost")
}

fn contains(network: IpAddr, bits: u8, address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => masked_v4(address, bits) == network,
        (IpAddr::V6(network), IpAddr::V6(address)) => masked_v6(address, bits) == network,
        _ => false,
    }
}

fn masked_v4(address: Ipv4Addr, bits: u8) -> Ipv4Addr {
    Ipv4Addr::from_bits(address.to_bits() & u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0))
}

fn masked_v6(address: Ipv6Addr, bits: u8) -> Ipv6Addr {
    Ipv6Addr::from_bits(address.to_bits() & u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0))
}

fn parse(text: &str) -> Result<Entry, String> {
    // An IPv6 address without brackets has colons of its own and no port.
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Ok(Entry { place: Place::Address(plain(address.into())), port: None });
    }
    let (place, port) = if let Some(rest) = text.strip_prefix('[') {
        let (inner, after) = rest.split_once(']').ok_or("the bracket is not closed")?;
        let port = match after.strip_prefix(':') {
            Some(port) => Some(port),
            None if after.is_empty() => None,
            None => return Err("only :port may follow the bracket".into()),
        };
        (inner, port)
    } else {
        match text.rsplit_once(':') {
            Some((before, _)) if before.contains(':') => (text, None),
            Some((before, port)) => (before, Some(port)),
            None => (text, None),
        }
    };
    let port = port.map(parse_port).transpose()?;
    Ok(Entry { place: parse_place(place)?, port })
}

fn parse_port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port) if port > 0 && text.bytes().all(|b| b.is_ascii_digit()) => Ok(port),
        _ => Err(format!("{text:?} is not a port (1 to 65535)")),
    }
}

fn parse_place(text: &str) -> Result<Place, String> {
    if let Some((address, bits)) = text.split_once('/') {
        return parse_network(address, bits);
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Place::Address(plain(address)));
    }
    let (name, is_suffix) = text.strip_prefix("*.").map_or((text, false), |rest| (rest, true));
    let name = name.to_ascii_lowercase();
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if name.len() > 253 || !name.split('.').all(is_label) {
        return Err(
            "expected a network (10.0.0.0/8), an address, a host or *.suffix, with or without :port".into()
        );
    }
    // What ends in a number is an address in some spelling, and would never be compared as a name.
    if name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit())) {
        return Err("it looks like an address but is none".into());
    }
    Ok(if is_suffix { Place::Suffix(format!(".{name}")) } else { Place::Host(name) })
}

fn parse_network(address: &str, bits: &str) -> Result<Place, String> {
    let address: IpAddr = address.parse().map_err(|_| format!("{address:?} is not an address"))?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits
        .parse::<u8>()
        .ok()
        .filter(|b| *b <= most)
        .ok_or_else(|| format!("/{bits} is not a prefix length (0 to {most})"))?;
    let network: IpAddr = match address {
        IpAddr::V4(v4) => masked_v4(v4, bits).into(),
        IpAddr::V6(v6) => masked_v6(v6, bits).into(),
    };
    if network != address {
        return Err(format!("the network is {network}/{bits}"));
    }
    Ok(if bits == most { Place::Address(plain(address)) } else { Place::Network(network, bits) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(entries: &[&str]) -> OutgoingPolicy {
        OutgoingPolicy::new(entries.iter().map(|e| OutgoingPolicy::parse_entry(e).unwrap()).collect())
    }

    fn check_address(entries: &[&str], address: &str, port: u16, expected: bool) {
        let allowed = policy(entries).allows_address(address.parse().unwrap(), port, None);
        assert_eq!(allowed, expected, "{entries:?} {address} {port}");
    }

    #[test]
    fn addresses_are_allowed_by_address_or_network_and_port() {
        check_address(&[], "10.1.2.3", 80, false);
        check_address(&["10.0.0.0/8"], "10.1.2.3", 80, true);
        check_address(&["10.0.0.0/8"], "11.1.2.3", 80, false);
        check_address(&["10.0.0.0/8:9100"], "10.1.2.3", 9100, true);
        check_address(&["10.0.0.0/8:9100"], "10.1.2.3", 80, false);
        check_address(&["0.0.0.0/0"], "127.0.0.1", 80, true);
        check_address(&["10.0.0.0/8"], "::ffff:10.1.2.3", 80, true);
        check_address(&["10.0.0.0/8"], "64:ff9b::10.1.2.3", 80, true);
        check_address(&["::1"], "::1", 80, true);
        check_address(&["[::1]:81"], "::1", 80, false);
        check_address(&["[fd12::/16]:443"], "fd12:1::1", 443, true);
        check_address(&["::/0"], "10.0.0.1", 80, false);
        check_address(&["svc.local"], "10.0.0.1", 80, false);
    }

    #[test]
    fn t10_link_local_and_metadata_addresses_need_that_very_address_in_the_list() {
        for address in ["169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe"] {
            check_address(&["0.0.0.0/0", "169.254.0.0/16", "::/0"], address, 80, false);
            check_address(&["169.254.169.254"], address, 80, true);
            check_address(&["169.254.169.254/32"], address, 80, true);
            check_address(&["169.254.169.253"], address, 80, false);
        }
        for address in ["0.0.0.0", "168.63.129.16", "100.100.100.200", "255.255.255.255", "224.0.0.1"] {
            check_address(&["0.0.0.0/0", "::/0"], address, 80, false);
            check_address(&[address], address, 80, true);
        }
        for address in ["2002:a9fe:a9fe::1", "::169.254.169.254"] {
            check_address(&["::/0", "0.0.0.0/0"], address, 80, false);
        }
        check_address(&["::/0"], "2002:0a00:0001::1", 80, false);
        for address in ["fe80::1", "fd00:ec2::254", "::", "ff02::1"] {
            check_address(&["::/0", "fe80::/10", "fd00::/8"], address, 80, false);
            check_address(&[address], address, 80, true);
        }
        let named = policy(&["metadata.internal"]);
        assert!(named.allows_name("metadata.internal", 80));
        let by_name = |address: &str, name| named.allows_address(address.parse().unwrap(), 80, Some(name));
        assert!(!by_name("169.254.169.254", "metadata.internal"));
        assert!(by_name("10.0.0.1", "metadata.internal"));
        for address in ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"] {
            assert!(!by_name(address, "metadata.internal"), "{address}");
            assert!(by_name(address, "localhost."), "{address}");
        }
    }

    #[test]
    fn names_are_allowed_whole_or_by_suffix_at_a_dot() {
        let list = policy(&["db.local:5432", "*.svc.cluster.local:8080"]);
        for (name, port, expected) in [
            ("db.local", 5432, true),
            ("DB.local.", 5432, true),
            ("db.local", 80, false),
            ("x.db.local", 5432, false),
            ("api.svc.cluster.local", 8080, true),
            ("a.b.svc.cluster.local", 8080, true),
            ("svc.cluster.local", 8080, false),
            ("evilsvc.cluster.local", 8080, false),
            ("api.svc.cluster.local.evil.com", 8080, false),
            ("api.svc.cluster.local", 80, false),
        ] {
            assert_eq!(list.allows_name(name, port), expected, "{name}:{port}");
        }
    }

    #[test]
    fn what_is_no_entry_is_refused_with_what_would_be_right() {
        for (text, part) in [
            ("", "expected a network"),
            ("*", "expected a network"),
            ("a b", "expected a network"),
            ("http://x", "is not a port"),
            ("x:0", "is not a port"),
            ("x:99999", "is not a port"),
            ("x:+80", "is not a port"),
            ("10.0.0.1/8", "the network is 10.0.0.0/8"),
            ("10.0.0.0/33", "prefix length (0 to 32)"),
            ("x/8", "is not an address"),
            ("10.0.0.256", "looks like an address"),
            ("[::1", "not closed"),
            ("[::1]80", "only :port"),
            ("*.*.x", "expected a network"),
        ] {
            let error = OutgoingPolicy::parse_entry(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn an_entry_prints_as_it_is_written() {
        for text in ["10.0.0.0/8:80", "10.0.0.1", "::1", "[::1]:80", "[fd00::/8]:1", "a.b:1", "*.x.y"] {
            assert_eq!(OutgoingPolicy::parse_entry(text).unwrap().to_string(), text);
        }
    }
}
