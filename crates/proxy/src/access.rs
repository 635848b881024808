//! Who may come in, and by what proof: the rules of `hba_file`, with the maps of `ident_file`.

use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;
use trunkline_hba::limits::PROBLEMS_MAX;
use trunkline_hba::{
    CertificateDemand, DiskFiles, FileProblem, FileProblems, HbaClient, HbaMethod, HbaRule, HbaRules,
    IdentMaps, LinePlace, LocalNetwork,
};
use trunkline_tls::accept::ClientSslMode;
use trunkline_topology::Address;

use crate::settings::{AuthSettings, ListenerSettings};

/// The rules in force.
#[derive(Clone, Debug)]
pub struct Access {
    rules: HbaRules,
    maps: IdentMaps,
}

impl Access {
    /// Reads the files; `None` where there is no `hba_file`.
    ///
    /// # Errors
    /// Everything that is wrong with them, and rules that need what is not set.
    pub fn load(auth: &AuthSettings, listeners: &[ListenerSettings]) -> Result<Option<Self>, FileProblems> {
        let Some(path) = &auth.hba_file else { return Ok(None) };
        let maps = match &auth.ident_file {
            Some(path) => IdentMaps::load(&DiskFiles, path)?,
            None => IdentMaps::default(),
        };
        let rules = HbaRules::load(&DiskFiles, path, &maps)?;
        if listeners.iter().all(|listener| listener.options.tls.ca_file.is_none()) {
            let demanding = |rule: &&HbaRule| rule.certificate_demand() != CertificateDemand::None;
            let mut problems: Vec<FileProblem> = rules.iter().filter(demanding).map(without_roots).collect();
            let more = problems.len().saturating_sub(PROBLEMS_MAX);
            problems.truncate(PROBLEMS_MAX);
            if !problems.is_empty() {
                return Err(FileProblems { problems, more });
            }
        }
        Ok(Some(Access { rules, maps }))
    }

    /// The rules that no client can match: they are for TLS, and no listener has it.
    pub fn without_clients<'a>(
        &'a self,
        listeners: &[ListenerSettings],
    ) -> impl Iterator<Item = &'a LinePlace> + use<'a> {
        let has_tls = listeners.iter().any(|listener| {
            matches!(listener.address, Address::Tcp(_))
                && listener.options.tls.sslmode() != ClientSslMode::Disable
        });
        self.rules.iter().filter(move |rule| rule.needs_tls() && !has_tls).map(HbaRule::place)
    }

    /// Whether a rule is there whose clients are logged in on servers with stored secrets.
    pub(crate) fn needs_secrets(&self) -> bool {
        self.rules.iter().any(|rule| match rule.method() {
            HbaMethod::Trust
            | HbaMethod::Md5
            | HbaMethod::ScramSha256
            | HbaMethod::Password
            | HbaMethod::Cert
            | HbaMethod::Peer => true,
            HbaMethod::Reject | HbaMethod::Relay | HbaMethod::Login => false,
        })
    }

    /// The rule that decides about a client; `None` when it is not to come in.
    pub(crate) fn find(&self, client: &HbaClient<'_>) -> Option<&HbaRule> {
        self.rules.find(client, own_networks)
    }

    /// Whether who is called `name` elsewhere may be `user`, by the map of the rule.
    pub(crate) fn allows(&self, rule: &HbaRule, name: &[u8], user: &[u8]) -> bool {
        self.maps.allows(rule.map(), name, user)
    }
}

fn without_roots(rule: &HbaRule) -> FileProblem {
    FileProblem {
        place: Some(rule.place().clone()),
        message: "the rule demands a client certificate, and client_tls.ca_file is not set for any listener"
            .to_owned(),
        hint: Some("Set it to the file with the roots of clients' certificates.".to_owned()),
    }
}

/// The addresses of this machine, for `samehost` and `samenet`; none if the kernel does not tell.
fn own_networks() -> Vec<LocalNetwork> {
    let interfaces = match getifaddrs() {
        Ok(interfaces) => interfaces,
        Err(error) => {
            tracing::error!(%error, "could not list the addresses of this machine: no rule with samehost or samenet matches");
            return Vec::new();
        }
    };
    interfaces
        .filter_map(|interface| {
            let address = ip(interface.address.as_ref()?)?;
            Some(LocalNetwork { address, mask: interface.netmask.as_ref().and_then(ip) })
        })
        .collect()
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn this_machine_has_its_loopback_address_in_a_network() {
        let networks = own_networks();
        let loopback = networks.iter().find(|network| network.address == IpAddr::V4(Ipv4Addr::LOCALHOST));
        assert_eq!(loopback.and_then(|found| found.mask), Some(IpAddr::V4(Ipv4Addr::new(255, 0, 0, 0))));
        assert!(networks.iter().all(|network| network.address != IpAddr::V6(Ipv6Addr::UNSPECIFIED)));
    }
}
