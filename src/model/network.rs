//! A block of addresses, as people write it.
//!
//! Must never: resolve a name or open a connection.

use std::fmt;
// Of `core`, which has addresses and no sockets.
use core::net::IpAddr;

/// A block of addresses, such as `10.0.0.0/8`; a single address is the block of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Reads an address or a block in CIDR notation. An IPv4-mapped address counts as IPv4.
    ///
    /// # Errors
    /// A sentence for the person who wrote it; also for a block whose address has bits behind its prefix,
    /// because `10.0.0.5/8` may have been meant as `10.0.0.5`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not an IP address or a network such as 10.0.0.0/8");
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let written: IpAddr = address.parse().map_err(|_| wrong())?;
        let address = written.to_canonical();
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            // The prefix of a mapped block counts from the mapped address' own start, which nobody means.
            Some(_) if written != address => return Err(wrong()),
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().ok().filter(|prefix| *prefix <= bits).ok_or_else(wrong)?
            }
            Some(_) => return Err(wrong()),
        };
        let network = Self { address, prefix };
        if network.start() == to_bits(address) {
            return Ok(network);
        }
        Err(format!("{text:?} names an address, not a network: bits behind the prefix are set"))
    }

    /// Whether `address` lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4()
            && (Self { address, prefix: self.prefix }).start() == self.start()
    }

    /// The bits of the address up to the prefix, the others zero.
    fn start(&self) -> u128 {
        let bits: u32 = if self.address.is_ipv4() { 32 } else { 128 };
        let rest = bits - u32::from(self.prefix);
        to_bits(self.address).checked_shr(rest).unwrap_or(0).checked_shl(rest).unwrap_or(0)
    }
}

fn to_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = if self.address.is_ipv4() { 32 } else { 128 };
        match self.prefix {
            prefix if prefix == whole => write!(f, "{}", self.address),
            prefix => write!(f, "{}/{prefix}", self.address),
        }
    }
}

/// Whom an address counts as: an IPv6 host is usually given a whole /64, and chooses in it.
pub fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_addresses_and_no_others() {
        let check = |network: &str, address: &str, expected: bool| {
            let network = Network::parse(network).unwrap();
            assert_eq!(network.contains(address.parse().unwrap()), expected, "{address} in {network}");
        };
        check("10.0.0.0/8", "10.255.0.1", true);
        check("10.0.0.0/8", "11.0.0.1", false);
        check("10.0.0.0/8", "::ffff:10.0.0.1", true);
        check("192.0.2.7", "192.0.2.7", true);
        check("192.0.2.7", "192.0.2.8", false);
        check("0.0.0.0/0", "203.0.113.1", true);
        check("0.0.0.0/0", "::1", false);
        check("::/0", "2001:db8::1", true);
        check("::/0", "10.0.0.1", false);
        check("2001:db8::/32", "2001:db8:1::1", true);
        check("::ffff:10.0.0.1", "10.0.0.1", true);
        check("10.1.0.0/16", "10.1.255.255", true);
        check("10.1.0.0/16", "10.2.0.0", false);
        check("10.1.2.3", "10.1.2.3", true);
        check("10.1.2.3", "10.1.2.4", false);
        check("2001:db8::/32", "2001:db9::1", false);
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for bad in [
            "",
            "10",
            "10.0.0.0/33",
            "10.0.0.5/8",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "::/129",
            "10.0.0/8",
            "example.com",
            "10.0.0.0/-1",
            "x/8",
            "::ffff:10.0.0.0/8",
        ] {
            assert!(Network::parse(bad).is_err(), "{bad:?}");
        }
    }
}
