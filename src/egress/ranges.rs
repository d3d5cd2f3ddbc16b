//! What kind of address an address is: ranges, and IPv4 addresses in the clothes of IPv6. Not whether it may be
//! connected to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

/// A network, as CIDR. IPv4 in IPv6 clothes is not one: addresses are compared undressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    prefix: u32,
}

/// Addresses that no partner has, whatever the configuration says, and what they are.
const NEVER: [(&str, &[&str]); 5] = [
    (
        "an address of a cloud's metadata service",
        &[
            "169.254.169.254/32", // most clouds
            "169.254.170.0/24",   // credentials of containers
            "100.100.100.200/32", // Alibaba
            "168.63.129.16/32",   // Azure
            "192.0.0.192/32",     // Oracle
            "fd00:ec2::/32",      // Amazon
            "fd20:ce::254/128",   // Google
            "fd00:42::42/128",    // Scaleway
            "fe80::a9fe:a9fe/128",
        ],
    ),
    ("a link-local address", &["169.254.0.0/16", "fe80::/10"]),
    ("an unspecified address", &["0.0.0.0/8", "::/128"]),
    ("a multicast address", &["224.0.0.0/4", "ff00::/8"]),
    ("a broadcast or reserved address", &["240.0.0.0/4"]),
];

const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1/128"];

/// As above, read once: each request to an address is judged by them.
static NEVER_READ: LazyLock<Vec<(&str, Vec<Network>)>> =
    LazyLock::new(|| NEVER.iter().map(|(words, networks)| (*words, read(networks))).collect());
static LOOPBACK_READ: LazyLock<Vec<Network>> = LazyLock::new(|| read(&LOOPBACK));

/// What no partner is, in words; `None` for all other addresses. `address` is plain, see [`plain`].
pub fn never(address: IpAddr) -> Option<&'static str> {
    let within = |networks: &[Network]| networks.iter().any(|network| network.contains(address));
    NEVER_READ.iter().find(|(_, networks)| within(networks)).map(|(words, _)| *words)
}

pub fn is_loopback(address: IpAddr) -> bool {
    LOOPBACK_READ.iter().any(|network| network.contains(address))
}

/// An IPv4 address that is written as IPv6 (`::ffff:…`) goes to the IPv4 address: that is what it is.
pub fn plain(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// IPv4 addresses that a gateway may make of an IPv6 one: compatible, translated, NAT64, 6to4, Teredo, ISATAP.
pub fn hidden(address: IpAddr) -> Vec<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return Vec::new() };
    let part = address.segments();
    let bytes = address.octets();
    let two = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    let last = two(part[6], part[7]);
    let mut found = Vec::new();
    match part {
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 || low > 1 => found.push(last),
        [0, 0, 0, 0, 0xffff, 0, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => found.push(last),
        // NAT64 of a site: the address is at the end, or around byte 8, as its prefix is long.
        [0x64, 0xff9b, 1, ..] => {
            found.extend([last, Ipv4Addr::new(bytes[6], bytes[7], bytes[9], bytes[10])]);
            found.push(Ipv4Addr::new(bytes[7], bytes[9], bytes[10], bytes[11]));
            found.push(Ipv4Addr::new(bytes[9], bytes[10], bytes[11], bytes[12]));
        }
        [0x2002, high, low, ..] => found.push(two(high, low)),
        [0x2001, 0, high, low, ..] => found.extend([two(high, low), two(!part[6], !part[7])]),
        _ => {}
    }
    if matches!((part[4], part[5]), (0 | 0x200, 0x5efe)) {
        found.push(last);
    }
    found
}

impl Network {
    /// `10.0.0.0/8`, or one address. `Err` says what to write instead, if that is known.
    pub fn parse(text: &str) -> Result<Self, Option<String>> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let first: IpAddr = address.parse().map_err(|_| None)?;
        let longest = if first.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => longest,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().map_err(|_| None)?,
            Some(_) => return Err(None),
        };
        if prefix > longest {
            return Err(Some(format!("the longest prefix of such an address is /{longest}")));
        }
        if plain(first) != first {
            return Err(Some(format!("write the IPv4 address itself: {}", plain(first))));
        }
        let network = Self { first: masked(first, prefix), prefix };
        if network.first == first { Ok(network) } else { Err(Some(format!("did you mean `{network}`?"))) }
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        self.first.is_ipv4() == address.is_ipv4() && masked(address, self.prefix) == self.first
    }

    /// Whether every address of `self` is in `larger`.
    fn is_within(&self, larger: &Self) -> bool {
        larger.prefix <= self.prefix && larger.contains(self.first)
    }

    /// Whether the network holds nothing but addresses of this machine: only such a one opens the way to them.
    pub fn is_loopback(&self) -> bool {
        LOOPBACK.iter().any(|network| self.is_within(&known(network)))
    }

    /// What the whole network is, if none of its addresses is ever a target.
    pub fn never(&self) -> Option<&'static str> {
        let within = |networks: &[&str]| networks.iter().any(|network| self.is_within(&known(network)));
        NEVER.iter().find(|(_, networks)| within(networks)).map(|(words, _)| *words)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

fn read(networks: &[&str]) -> Vec<Network> {
    networks.iter().map(|network| known(network)).collect()
}

fn known(text: &str) -> Network {
    Network::parse(text).expect("the ranges of this file are networks")
}

fn masked(address: IpAddr, prefix: u32) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            Ipv4Addr::from(address.to_bits() & u32::MAX.checked_shl(32 - prefix).unwrap_or(0)).into()
        }
        IpAddr::V6(address) => {
            Ipv6Addr::from(address.to_bits() & u128::MAX.checked_shl(128 - prefix).unwrap_or(0)).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_has_its_addresses_and_no_others() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
            ("10.0.0.7", "10.0.0.7", "10.0.0.8"),
            ("0.0.0.0/0", "203.0.113.9", "::1"),
            ("2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::"),
            ("::/0", "2001:db8::1", "10.0.0.1"),
        ] {
            let network = Network::parse(network).unwrap();
            assert!(network.contains(address(inside)) && !network.contains(address(outside)), "{network}");
        }
    }

    #[test]
    fn what_is_no_network_says_what_to_write_instead() {
        assert_eq!(Network::parse("10.0.0.5/8"), Err(Some("did you mean `10.0.0.0/8`?".to_owned())));
        assert_eq!(Network::parse("10.0.0.0/33"), Err(Some("the longest prefix of such an address is /32".to_owned())));
        let mapped = Some("write the IPv4 address itself: 10.0.0.0".to_owned());
        assert_eq!(Network::parse("::ffff:10.0.0.0/104"), Err(mapped));
        for nonsense in ["", "10.0.0.0/", "10.0.0.0/+8", "10.0.0/8", "fe80::1%eth0", "gis.vdot.gov"] {
            assert_eq!(Network::parse(nonsense), Err(None), "{nonsense}");
        }
    }

    #[test]
    fn every_range_of_this_file_is_a_network_and_is_what_it_says() {
        for (words, networks) in NEVER {
            for network in networks {
                assert!(never(known(network).first).is_some(), "{words}: {network}");
            }
        }
        for loopback in ["127.0.0.1", "127.255.255.255", "::1"] {
            assert!(is_loopback(address(loopback)), "{loopback}");
        }
        assert!(known("127.0.0.0/16").is_loopback() && !known("0.0.0.0/0").is_loopback());
        for partner in ["8.8.8.8", "10.1.2.3", "192.168.0.1", "172.16.0.1", "fd12::1", "2001:db8::1", "100.64.0.1"] {
            assert_eq!((never(address(partner)), is_loopback(address(partner))), (None, false), "{partner}");
        }
    }

    #[test]
    fn ipv4_is_found_in_every_dress_of_ipv6() {
        let loopback: Ipv4Addr = Ipv4Addr::LOCALHOST;
        assert_eq!(plain(address("::ffff:127.0.0.1")), loopback);
        for dressed in [
            "::127.0.0.1",
            "::ffff:0:127.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b:1::127.0.0.1",
            "64:ff9b:1:7f00:0:100::",
            "2002:7f00:1::1",
            "2001:0:7f00:1::1",
            "2001:0:c000:201:0:0:80ff:fffe",
            "2001:db8::5efe:127.0.0.1",
            "2001:db8::200:5efe:127.0.0.1",
        ] {
            assert!(hidden(address(dressed)).contains(&loopback), "{dressed}: {:?}", hidden(address(dressed)));
        }
        for naked in ["::", "::1", "2001:db8::7f00:1", "127.0.0.1"] {
            assert_eq!(hidden(address(naked)), Vec::<Ipv4Addr>::new(), "{naked}");
        }
    }
}
