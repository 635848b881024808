//! Servers that are the proxy itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use trunkline_topology::Address;

use super::listeners::default_address;
use crate::config::raw::{ConfigPurpose, RawConfig};
use crate::config::{Problem, Problems, Source, units};

/// The port of the discard protocol, RFC 863: any will do.
const DISCARD: u16 = 9;

/// Reports every server whose address the proxy listens on: its sessions would come back to it.
pub(super) fn check(raw: &RawConfig, problems: &mut Problems) {
    let mut own: Vec<_> = super::of_others(raw).collect();
    match raw.purpose {
        ConfigPurpose::Proxy if raw.listeners.is_empty() => {
            own.push((default_address().into(), "listener \"reads\"".to_owned(), Source::Default));
        }
        ConfigPurpose::Proxy => own.extend(super::of_listeners(raw)),
        ConfigPurpose::HealthChecks => {}
    }
    for server in &raw.servers {
        let Some(Ok(address)) = server.address.value.as_deref().map(units::server) else { continue };
        let (host, port) = (&address.host, address.port);
        if let Some((_, listener, _)) = own.iter().find(|(listens, ..)| is_at(listens, host, port)) {
            let message = format!("{host}:{port} is where {listener} of this proxy listens");
            problems.push(
                Problem::new(&server.address.source, "server.address", message)
                    .hint("Write the address of PostgreSQL itself, or move the listener to another port."),
            );
        }
    }
}

/// Whether a connection to `host` and `port` gets to a socket that listens at `listens`. Names are not looked up.
fn is_at(listens: &Address, host: &str, port: u16) -> bool {
    let Address::Tcp(listens) = listens else {
        return Address::of_directory(host, port).as_ref() == Some(listens);
    };
    if port == 0 || listens.port() != port {
        return false;
    }
    let everywhere = listens.ip().is_unspecified();
    if host.eq_ignore_ascii_case("localhost") {
        return everywhere || listens.ip().is_loopback();
    }
    let Ok(address) = host.parse::<IpAddr>() else { return false };
    address == listens.ip() || (everywhere && is_of_this_machine(address))
}

/// Whoever would send to an address of this machine has that very address; nothing is sent.
fn is_of_this_machine(address: IpAddr) -> bool {
    let any =
        if address.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let own = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((address, DISCARD))?;
        socket.local_addr()
    });
    address.is_loopback() || own.is_ok_and(|own| own.ip() == address)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn a_server_is_at_a_listener_of_its_port_and_address() {
        let at = |listens: &str, host: &str, port| {
            is_at(&listens.parse::<SocketAddr>().expect("an address").into(), host, port)
        };
        assert!(at("127.0.0.1:5434", "localhost", 5434) && at("127.0.0.1:5434", "127.0.0.1", 5434));
        assert!(at("0.0.0.0:5434", "127.0.0.1", 5434) && at("[::]:5434", "localhost", 5434));
        assert!(!at("127.0.0.1:5434", "127.0.0.1", 5433));
        assert!(!at("127.0.0.1:5434", "db1", 5434));
        // Source: RFC 5737, an address of documentation, which no machine has.
        let socket = Address::of_directory("/run/trunkline", 5434).expect("a directory");
        assert!(is_at(&socket, "/run/trunkline", 5434) && !is_at(&socket, "/run/trunkline", 5433));
        assert!(!at("0.0.0.0:5434", "192.0.2.1", 5434) && !at("127.0.0.1:0", "127.0.0.1", 0));
    }
}
