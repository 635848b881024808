//! How single values are written: addresses, networks, switches, permissions.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use trunkline_topology::Address;

use crate::config::RawValue;
use crate::config::units::{self, HostPort};

/// Read, write and execute for all.
const PERMISSIONS_MAX: u32 = 0o777;

/// An address and a port, or the directory of a Unix socket with its port.
pub(super) fn listen_or_socket(text: &str) -> Result<Option<Address>, String> {
    if !text.trim().starts_with('/') {
        return Ok(listen(text)?.map(Address::Tcp));
    }
    let HostPort { host, port } = units::server(text)?;
    Ok(Address::of_directory(&host, port))
}

/// An address and a port to listen on, or `off`.
pub(super) fn listen(text: &str) -> Result<Option<SocketAddr>, String> {
    if is_off(text) {
        return Ok(None);
    }
    let address = match text.trim().split_once(':') {
        Some(("localhost", port)) => format!("127.0.0.1:{port}"),
        Some(("*" | "", port)) => format!("0.0.0.0:{port}"),
        _ => text.trim().to_owned(),
    };
    address.parse().map(Some).map_err(|_| format!("{text:?} is not an address and a port"))
}

/// Networks, separated by commas.
pub(super) fn networks(list: &str) -> Result<Vec<IpNet>, String> {
    let words = list.split(',').map(str::trim).filter(|word| !word.is_empty());
    let network = |word: &str| {
        let network = word.parse().or_else(|_| word.parse::<IpAddr>().map(IpNet::from));
        network.map_err(|_| format!("{word:?} is no network"))
    };
    words.map(network).collect()
}

/// Texts: a list, or one text with commas where there are no lists, as in the environment.
pub(super) fn list(value: &RawValue) -> Option<Vec<String>> {
    match value {
        RawValue::List(texts) => Some(texts.clone()),
        RawValue::Text(text) | RawValue::Bare(text) => {
            let words = text.trim().trim_start_matches('[').trim_end_matches(']').split(',');
            let words = words.map(|word| word.trim().trim_matches('"')).filter(|word| !word.is_empty());
            Some(words.map(str::to_owned).collect())
        }
        RawValue::Integer(_) | RawValue::Float(_) | RawValue::Boolean(_) => None,
    }
}

/// As a boolean of the file may be written where nothing is quoted.
pub(super) fn switch(text: &str) -> Option<bool> {
    let is = |words: [&str; 2]| words.iter().any(|word| text.trim().eq_ignore_ascii_case(word));
    is(["on", "true"]).then_some(true).or(is(["off", "false"]).then_some(false))
}

/// A program and its arguments: a list, or the text of one where there are no lists, as in the environment.
pub(super) fn command(value: &RawValue) -> Option<Vec<String>> {
    let texts = match value {
        RawValue::List(texts) => texts.clone(),
        RawValue::Bare(text) => {
            let table: toml::Table = format!("it = {text}").parse().ok()?;
            let items = table.get("it")?.as_array()?;
            items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<_>>()?
        }
        RawValue::Text(_) | RawValue::Integer(_) | RawValue::Float(_) | RawValue::Boolean(_) => return None,
    };
    texts.first().is_some_and(|program| !program.is_empty()).then_some(texts)
}

/// The permission bits of a mode such as `0770`.
pub(super) fn permissions(text: &str) -> Option<u32> {
    u32::from_str_radix(text.trim(), 8).ok().filter(|mode| *mode <= PERMISSIONS_MAX)
}

/// Whether nothing is meant.
pub(super) fn is_off(text: &str) -> bool {
    text.is_empty() || text.eq_ignore_ascii_case("off")
}
