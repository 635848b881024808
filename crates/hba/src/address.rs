//! Where connections come from.
//!
//! Source: PostgreSQL 16, src/backend/libpq/hba.c, `parse_hba_line`, `check_same_host_or_net`; ifaddr.c,
//! `pg_range_sockaddr`, `pg_sockaddr_cidr_mask`.

use std::net::IpAddr;

use crate::lines::Field;
use crate::problem::Wrong;
use crate::token::AuthToken;

/// An address of this machine, and the mask of the network that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalNetwork {
    /// The address.
    pub address: IpAddr,
    /// The mask; `None` where there is none.
    pub mask: Option<IpAddr>,
}

/// The addresses of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RuleAddress {
    All,
    /// Those of this machine.
    SameHost,
    /// Those of its networks.
    SameNet,
    Range(AddressRange),
}

/// Addresses that agree with one where the mask has ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AddressRange {
    address: IpAddr,
    mask: IpAddr,
}

/// Bits in front of the IPv4 address in an IPv4-mapped IPv6 address. Source: RFC 4291, 2.5.5.2.
const MAPPED_BITS: u32 = 96;

impl AddressRange {
    /// Addresses mapped to IPv6 are those of IPv4: clients that come by both are the same.
    fn new(address: IpAddr, mask: IpAddr) -> Self {
        let is_within_mapped =
            matches!(mask, IpAddr::V6(mask) if mask.to_bits().leading_ones() >= MAPPED_BITS);
        match (address.to_canonical(), mask) {
            (IpAddr::V4(v4), IpAddr::V6(mask)) if is_within_mapped => {
                let low = u32::try_from(mask.to_bits() & u128::from(u32::MAX)).unwrap_or(u32::MAX);
                AddressRange { address: v4.into(), mask: IpAddr::V4(low.into()) }
            }
            _ => AddressRange { address, mask },
        }
    }

    fn contains(&self, client: IpAddr) -> bool {
        match (self.address, self.mask, client) {
            (IpAddr::V4(net), IpAddr::V4(mask), IpAddr::V4(client)) => {
                (net.to_bits() ^ client.to_bits()) & mask.to_bits() == 0
            }
            (IpAddr::V6(net), IpAddr::V6(mask), IpAddr::V6(client)) => {
                (net.to_bits() ^ client.to_bits()) & mask.to_bits() == 0
            }
            _ => false,
        }
    }
}

impl RuleAddress {
    /// Whether a client's address, in its canonical form, is among them.
    pub(crate) fn contains(&self, client: IpAddr, own: &mut dyn FnMut() -> Vec<LocalNetwork>) -> bool {
        match self {
            RuleAddress::All => true,
            RuleAddress::Range(range) => range.contains(client),
            RuleAddress::SameHost => own().iter().any(|own| own.address.to_canonical() == client),
            // As in PostgreSQL, a mask without a bit makes no network: it would have all addresses.
            RuleAddress::SameNet => {
                own().iter().any(|own| match own.mask.filter(|mask| !mask.is_unspecified()) {
                    Some(mask) => AddressRange::new(own.address, mask).contains(client),
                    None => own.address.to_canonical() == client,
                })
            }
        }
    }

    /// Reads the address of a rule, and the mask behind it where that is a field of its own.
    pub(crate) fn read<'f>(fields: &mut impl Iterator<Item = &'f Field>) -> Result<Self, Wrong> {
        let field = fields.next().ok_or_else(|| Wrong::new("end-of-line before IP address specification"))?;
        let [token] = &field[..] else {
            let wrong = Wrong::new("multiple values specified in host address field");
            return Err(wrong.hint("Specify one address range per line."));
        };
        for (keyword, meant) in [("all", Self::All), ("samehost", Self::SameHost), ("samenet", Self::SameNet)]
        {
            if token.is_keyword(keyword) {
                return Ok(meant);
            }
        }
        match token.text.split_once('/') {
            Some((address, bits)) => cidr(token, address, bits),
            None => {
                let address = numeric(&token.text)?;
                let mask = fields.next().ok_or_else(|| {
                    Wrong::new("end-of-line before netmask specification")
                        .hint("Specify an address range in CIDR notation, or provide a separate netmask.")
                })?;
                with_mask(address, mask)
            }
        }
        .map(RuleAddress::Range)
    }
}

fn numeric(text: &str) -> Result<IpAddr, Wrong> {
    text.parse().map_err(|_| {
        let message = format!("\"{text}\" is no IP address: host names are not looked up");
        Wrong::new(message).hint("Write the network of the clients, such as 10.0.0.0/8, or all.")
    })
}

fn cidr(token: &AuthToken, address: &str, bits: &str) -> Result<AddressRange, Wrong> {
    let address = numeric(address)?;
    let invalid = || Wrong::new(format!("invalid CIDR mask in address \"{}\"", token.text));
    let length: u32 = bits.parse().map_err(|_| invalid())?;
    let most = if address.is_ipv4() { u32::BITS } else { u128::BITS };
    if length > most || bits.starts_with('+') {
        return Err(invalid());
    }
    let mask: IpAddr = match address {
        IpAddr::V4(_) => IpAddr::V4(u32::MAX.checked_shl(u32::BITS - length).unwrap_or(0).into()),
        IpAddr::V6(_) => IpAddr::V6(u128::MAX.checked_shl(u128::BITS - length).unwrap_or(0).into()),
    };
    Ok(AddressRange::new(address, mask))
}

fn with_mask(address: IpAddr, field: &Field) -> Result<AddressRange, Wrong> {
    let [mask] = &field[..] else {
        return Err(Wrong::new("multiple values specified for netmask"));
    };
    let invalid = |_| Wrong::new(format!("invalid IP mask \"{}\"", mask.text));
    let mask: IpAddr = mask.text.parse().map_err(invalid)?;
    if mask.is_ipv4() != address.is_ipv4() {
        return Err(Wrong::new("IP address and mask do not match"));
    }
    Ok(AddressRange::new(address, mask))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<RuleAddress, String> {
        let token = |text: &&str| vec![AuthToken { text: (*text).to_owned(), is_quoted: false }];
        let fields: Vec<Field> = words.iter().map(token).collect();
        RuleAddress::read(&mut fields.iter()).map_err(|wrong| wrong.message)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_range_has_the_addresses_that_agree_with_it() {
        for (words, client, is_in) in [
            (&["10.1.2.3/8"][..], "10.200.0.1", true),
            (&["10.1.2.3/8"], "11.0.0.1", false),
            (&["0.0.0.0/0"], "192.0.2.1", true),
            (&["0.0.0.0/0"], "::1", false),
            (&["::/0"], "192.0.2.1", false),
            (&["::/0"], "2001:db8::1", true),
            (&["10.0.0.0", "255.0.255.0"], "10.9.0.3", true),
            (&["10.0.0.0", "255.0.255.0"], "10.9.1.3", false),
            (&["::ffff:10.0.0.0/104"], "10.1.1.1", true),
            (&["::ffff:10.0.0.1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"], "10.0.0.1", true),
            (&["::ffff:10.0.0.1/128"], "10.0.0.2", false),
            (&["192.0.2.1/32"], "192.0.2.1", true),
            (&["all"], "::1", true),
        ] {
            let address = read(words).unwrap_or_else(|wrong| panic!("{wrong}"));
            assert_eq!(address.contains(ip(client), &mut Vec::new), is_in, "{words:?} {client}");
        }
    }

    #[test]
    fn the_networks_of_this_machine_are_asked_for_only_when_they_matter() {
        let own = || {
            let of = |address, mask| LocalNetwork { address: ip(address), mask: Some(ip(mask)) };
            vec![of("192.0.2.7", "255.255.255.0"), of("2001:db8::7", "ffff:ffff:ffff:ffff::")]
        };
        let contains = |word, client| read(&[word]).map(|read| read.contains(ip(client), &mut { own }));
        assert_eq!(contains("samehost", "192.0.2.7"), Ok(true));
        assert_eq!(contains("samehost", "192.0.2.8"), Ok(false));
        assert_eq!(contains("samenet", "192.0.2.8"), Ok(true));
        assert_eq!(contains("samenet", "192.0.3.8"), Ok(false));
        assert_eq!(contains("samenet", "2001:db8::1"), Ok(true));
        let all = LocalNetwork { address: ip("192.0.2.7"), mask: Some(ip("0.0.0.0")) };
        let contains = |client| read(&["samenet"]).map(|read| read.contains(ip(client), &mut || vec![all]));
        assert_eq!(["192.0.2.7", "192.0.2.8"].map(contains), [Ok(true), Ok(false)]);
        let mut asked = false;
        let mut note = || {
            asked = true;
            Vec::new()
        };
        assert!(read(&["all"]).is_ok_and(|all| all.contains(ip("::1"), &mut note)));
        assert!(!asked);
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for words in [
            &[][..],
            &["db.example"],
            &["db.example/24"],
            &["10.0.0.0/33"],
            &["10.0.0.0/"],
            &["10.0.0.0/+8"],
            &["::1/129"],
            &["10.0.0.1"],
            &["10.0.0.1", "ffff::"],
            &["10.0.0.1", "255.0.0"],
            &["10.0.1"],
        ] {
            assert!(read(words).is_err(), "{words:?}");
        }
    }
}
