//! Networks of peers that are trusted with something, such as with telling clients' addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An IP network: an address and how many of its leading bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix_bits: u8,
}

/// The text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Not `ADDRESS` or `ADDRESS/BITS`.
    #[error("not an IP network, such as \"10.0.0.0/8\" or \"::1\"")]
    Syntax,
    /// More bits than an address has.
    #[error("an address has {bits_max} bits at most")]
    Bits {
        /// Bits of an address of this family.
        bits_max: u8,
    },
    /// Bits behind the prefix are set: most likely one of the two is mistyped.
    #[error("the address has bits behind the prefix; did you mean {meant}?")]
    HostBits {
        /// The network that contains the address.
        meant: Network,
    },
}

impl Network {
    /// Whether `address` is in it. An IPv4 address inside IPv6 (`::ffff:a.b.c.d`) is an IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        masked(address.to_canonical(), self.prefix_bits) == Some(self.address)
    }
}

/// The address with only its first `bits` kept; `None` when it has fewer.
fn masked(address: IpAddr, bits: u8) -> Option<IpAddr> {
    let bits = u32::from(bits);
    match address {
        IpAddr::V4(address) => {
            let behind = Ipv4Addr::BITS.checked_sub(bits)?;
            let mask = u32::MAX.checked_shl(behind).unwrap_or(0);
            Some(Ipv4Addr::from_bits(address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let behind = Ipv6Addr::BITS.checked_sub(bits)?;
            let mask = u128::MAX.checked_shl(behind).unwrap_or(0);
            Some(Ipv6Addr::from_bits(address.to_bits() & mask).into())
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Syntax)?;
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match bits {
            None => bits_max,
            Some(digits) if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                return Err(NetworkError::Syntax);
            }
            Some(digits) => digits.parse().map_err(|_| NetworkError::Bits { bits_max })?,
        };
        let network = masked(address, prefix_bits).ok_or(NetworkError::Bits { bits_max })?;
        let meant = Network { address: network, prefix_bits };
        if network == address { Ok(meant) } else { Err(NetworkError::HostBits { meant }) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().expect("a network")
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_network_contains_its_addresses_and_no_others() {
        for (text, inside, outside) in [
            ("127.0.0.0/8", "127.255.0.1", "128.0.0.0"),
            ("172.16.0.0/12", "172.31.255.255", "172.32.0.0"),
            ("10.1.2.3", "10.1.2.3", "10.1.2.4"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::/0", "::1", "10.0.0.1"),
            ("127.0.0.0/8", "::ffff:127.0.0.1", "::7f00:1"),
        ] {
            assert!(network(text).contains(address(inside)), "{text} contains {inside}");
            assert!(!network(text).contains(address(outside)), "{text} does not contain {outside}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in
            ["", "/8", "localhost", "10.0.0.0/", "10.0.0.0/+8", "10.0.0/8", "10.0.0.0/8/8", "10.0.0.0/-1"]
        {
            assert_eq!(text.parse::<Network>(), Err(NetworkError::Syntax), "{text:?}");
        }
        assert_eq!("10.0.0.0/33".parse::<Network>(), Err(NetworkError::Bits { bits_max: 32 }));
        assert_eq!("::/129".parse::<Network>(), Err(NetworkError::Bits { bits_max: 128 }));
        assert_eq!("::/999".parse::<Network>(), Err(NetworkError::Bits { bits_max: 128 }));
    }

    #[test]
    fn an_address_that_is_not_its_networks_first_is_a_slip() {
        let error = "10.1.2.3/8".parse::<Network>().expect_err("it has bits behind the prefix");
        assert_eq!(error.to_string(), "the address has bits behind the prefix; did you mean 10.0.0.0/8?");
    }

    #[test]
    fn its_text_reads_back() {
        for text in ["10.0.0.0/8", "::1/128", "0.0.0.0/0", "192.0.2.7/32"] {
            assert_eq!(network(text).to_string(), text);
        }
    }
}
