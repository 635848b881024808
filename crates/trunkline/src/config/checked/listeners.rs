//! `[[listener]]`, checked.

use std::net::{Ipv4Addr, SocketAddr};

use trunkline_proxy::settings::{AddHost, ListenerSettings, Retry};
use trunkline_routing::Balance;
use trunkline_routing::TargetSessionAttrs;

use super::networks::networks;
use crate::config::raw::{BalanceWord, ListenerEntry, RawConfig, SessionAttrsWord, Switch};
use crate::config::{Problem, Problems, Source};

/// Port of reads when no listener is configured; that of the setup Trunkline replaces.
const READS_PORT: u16 = 5434;

/// The listeners, in order; one for reads when none is written.
pub(super) fn listeners(raw: &RawConfig, problems: &mut Problems) -> Vec<ListenerSettings> {
    let listeners: Vec<_> = raw.listeners.iter().filter_map(|listener| one(listener, problems)).collect();
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
    let addresses = super::addresses(raw);
    for (at, (address, key, source)) in addresses.iter().enumerate() {
        let taken = |(other, ..): &&(SocketAddr, _, _)| other == address && address.port() != 0;
        if let Some((_, twin, _)) = addresses[..at].iter().find(taken) {
            problems.push(
                Problem::new(source, key.as_str(), format!("{address} is the address of {twin} already"))
                    .hint("Give each its own port."),
            );
        }
    }
    if raw.listeners.is_empty() { vec![reads()] } else { listeners }
}

fn reads() -> ListenerSettings {
    ListenerSettings {
        name: "reads".to_owned(),
        address: (Ipv4Addr::LOCALHOST, READS_PORT).into(),
        target_session_attrs: TargetSessionAttrs::PreferStandby,
        balance: Balance::RoundRobin,
        proxy_protocol_from: Vec::new(),
        application_name_add_host: AddHost::Off,
        retry: Retry::On,
    }
}

fn one(listener: &ListenerEntry, problems: &mut Problems) -> Option<ListenerSettings> {
    let Some(address) = listener.address.value else {
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
        target_session_attrs: attrs(listener.target_session_attrs.value),
        balance: balance(listener.balance.value),
        proxy_protocol_from: networks(
            &listener.proxy_protocol_from,
            "listener.proxy_protocol_from",
            problems,
        ),
        application_name_add_host: match listener.application_name_add_host.value {
            Switch::Off => AddHost::Off,
            Switch::On => AddHost::On,
        },
        retry: match listener.retry.value {
            Switch::On => Retry::On,
            Switch::Off => Retry::Off,
        },
    })
}

fn attrs(attrs: SessionAttrsWord) -> TargetSessionAttrs {
    match attrs {
        SessionAttrsWord::Any => TargetSessionAttrs::Any,
        SessionAttrsWord::ReadWrite => TargetSessionAttrs::ReadWrite,
        SessionAttrsWord::ReadOnly => TargetSessionAttrs::ReadOnly,
        SessionAttrsWord::Primary => TargetSessionAttrs::Primary,
        SessionAttrsWord::Standby => TargetSessionAttrs::Standby,
        SessionAttrsWord::PreferStandby => TargetSessionAttrs::PreferStandby,
    }
}

fn balance(balance: BalanceWord) -> Balance {
    match balance {
        BalanceWord::RoundRobin => Balance::RoundRobin,
        BalanceWord::LeastOutstanding => Balance::LeastOutstanding,
        BalanceWord::RandomTwo => Balance::RandomTwo,
    }
}
