//! `[[listener]]`, checked.

use std::net::{Ipv4Addr, SocketAddr};

use trunkline_proxy::settings::{ListenerOptions, ListenerSettings};
use trunkline_tls::accept::AcceptSettings;
use trunkline_topology::Address;

use crate::config::raw::{ListenerEntry, RawConfig};
use crate::config::{Problem, Problems, Source, keys};

/// Port of reads when no listener is configured; that of the setup Trunkline replaces.
const READS_PORT: u16 = 5434;

/// The listeners, in order; one for reads when none is written.
pub(super) fn listeners(raw: &RawConfig, problems: &mut Problems) -> Vec<ListenerSettings> {
    let listeners: Vec<_> =
        raw.listeners.iter().filter_map(|listener| one(listener, &raw.client_tls, problems)).collect();
    for (at, listener) in listeners.iter().enumerate() {
        if listeners[..at].iter().any(|before| before.name == listener.name) {
            let source = &raw.listeners[at].name.source;
            problems.push(Problem::new(
                source,
                "listener.name",
                format!("{:?} is the name of another listener", listener.name),
            ));
        }
    }
    let addresses: Vec<_> = super::of_listeners(raw).chain(super::of_others(raw)).collect();
    for (at, (address, key, source)) in addresses.iter().enumerate() {
        let is_chosen_by_kernel = matches!(address, Address::Tcp(address) if address.port() == 0);
        let taken = |(other, ..): &&(Address, _, _)| other == address && !is_chosen_by_kernel;
        if let Some((_, twin, _)) = addresses[..at].iter().find(taken) {
            problems.push(
                Problem::new(source, key.as_str(), format!("{address} is the address of {twin} already"))
                    .hint("Give each its own port."),
            );
        }
    }
    if raw.listeners.is_empty() { vec![reads(&raw.client_tls)] } else { listeners }
}

/// Where reads are when no listener is configured.
pub(super) fn default_address() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, READS_PORT).into()
}

fn reads(tls: &AcceptSettings) -> ListenerSettings {
    let options = keys::new_listener(Source::Default).options;
    ListenerSettings {
        name: "reads".to_owned(),
        address: default_address().into(),
        options: ListenerOptions { tls: tls.clone(), ..options },
    }
}

fn one(listener: &ListenerEntry, tls: &AcceptSettings, problems: &mut Problems) -> Option<ListenerSettings> {
    let Some(address) = listener.address.value.clone() else {
        // A wrong one has been reported already.
        if listener.address.source == Source::Default {
            problems.push(
                Problem::new(&listener.source, "listener.address", "is missing")
                    .hint("Write where clients connect, such as address = \"127.0.0.1:5434\"."),
            );
        }
        return None;
    };
    Some(ListenerSettings {
        name: listener.name.value.clone().unwrap_or_else(|| address.to_string()),
        address,
        options: ListenerOptions { tls: listener.client_tls.over(tls), ..listener.options.clone() },
    })
}
