//! How one client is authenticated: by the first rule of `hba_file` that is for it, else as `[auth] mode` says.
//!
//! What a client has to show beside a password is looked at before it is asked for one: its certificate, and the user of this
//! machine that it runs as.

use nix::unistd::{Uid, User};
use trunkline_auth::authenticator::ClientMethod;
use trunkline_codec::startup::Replication;
use trunkline_hba::{CertificateDemand, CertificateName, HbaClient, HbaMethod, HbaRule};
use trunkline_net::Transport;
use trunkline_topology::ClientAddress;

use super::LoginFailure;
use super::request::{StartupRequest, shown};
use super::way::{LoginWay, is_protected};
use crate::access::Access;
use crate::context::{Live, Worker};
use crate::errors::{HbaRefusal, HbaRefusalKind, Refusal, RefusedClient};

/// How a client is authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ruling {
    pub(super) way: LoginWay,
    /// How it proves itself, where the proxy verifies it.
    pub(super) method: ClientMethod,
}

/// The client whom a rule is looked up for.
struct Applicant<'a> {
    client: &'a Transport,
    peer: ClientAddress,
    request: &'a StartupRequest,
    database: Option<&'a [u8]>,
}

/// Finds out how the client is authenticated.
///
/// # Errors
/// When it is not to come in, whatever it could prove further.
pub(super) async fn ruling(
    worker: &Worker,
    live: &Live,
    client: &Transport,
    peer: ClientAddress,
    request: &StartupRequest,
) -> Result<Ruling, LoginFailure> {
    match &live.stores.access {
        Some(access) => {
            let is_physical = request.replication == Replication::Physical;
            let database = (!is_physical).then_some(&*request.database);
            let applicant = Applicant { client, peer, request, database };
            Ok(applicant.judged(access).await?)
        }
        None => {
            let way = LoginWay::of(worker, live, client, peer, request).await?;
            Ok(Ruling { way, method: live.auth.client_method })
        }
    }
}

/// Why a client is refused, and what of that is for the log alone.
type Shortcoming = (HbaRefusalKind, Option<String>);

impl Applicant<'_> {
    /// By the first rule that is for this client.
    async fn judged(&self, access: &Access) -> Result<Ruling, Refusal> {
        let Some(rule) = access.find(&self.as_asked_for()) else {
            let kind = HbaRefusalKind::NoEntry(self.shown());
            return Err(HbaRefusal { kind, rule: None, reason: None }.into());
        };
        let refused = |(kind, reason): Shortcoming| {
            Refusal::from(HbaRefusal { kind, rule: Some(rule.place().clone()), reason })
        };
        self.shows_certificate(access, rule).map_err(refused)?;
        let verified = |method| Ok(Ruling { way: LoginWay::Verify, method });
        match rule.method() {
            HbaMethod::Reject => Err(refused((HbaRefusalKind::Rejected(self.shown()), None))),
            HbaMethod::Peer => {
                self.runs_as_user(access, rule).await.map_err(refused)?;
                verified(ClientMethod::Trust)
            }
            // Its certificate has been looked at.
            HbaMethod::Trust | HbaMethod::Cert => verified(ClientMethod::Trust),
            HbaMethod::Md5 => verified(ClientMethod::Auto),
            HbaMethod::ScramSha256 => verified(ClientMethod::ScramSha256),
            HbaMethod::Password if is_protected(self.client, self.peer) => verified(ClientMethod::Password),
            HbaMethod::Password => Err(refused((HbaRefusalKind::InTheClear, None))),
            HbaMethod::Relay => Ok(Ruling { way: LoginWay::Relay, method: ClientMethod::Auto }),
            HbaMethod::Login => {
                let way = LoginWay::by_password(self.client, self.peer);
                Ok(Ruling { way, method: ClientMethod::Auto })
            }
        }
    }

    fn as_asked_for(&self) -> HbaClient<'_> {
        HbaClient {
            address: match self.peer {
                ClientAddress::Tcp(address) => Some(address.ip()),
                ClientAddress::Local => None,
            },
            is_encrypted: self.client.is_encrypted(),
            user: &self.request.user,
            database: self.database,
        }
    }

    fn shown(&self) -> RefusedClient {
        RefusedClient {
            host: match self.peer {
                ClientAddress::Tcp(address) => address.ip().to_canonical().to_string(),
                ClientAddress::Local => self.peer.to_string(),
            },
            user: shown(&self.request.user),
            database: self.database.map(shown),
            is_encrypted: self.client.is_encrypted(),
        }
    }

    /// The certificate that a rule demands. Those that nobody vouches for do not get this far.
    fn shows_certificate(&self, access: &Access, rule: &HbaRule) -> Result<(), Shortcoming> {
        let demand = rule.certificate_demand();
        if demand == CertificateDemand::None {
            return Ok(());
        }
        let Some(subject) = self.client.peer_subject() else {
            return Err((HbaRefusalKind::NoCertificate, None));
        };
        if demand == CertificateDemand::Valid {
            return Ok(());
        }
        let name = match rule.certificate_name() {
            CertificateName::CommonName => subject.common_name,
            CertificateName::DistinguishedName => Some(subject.distinguished_name.into_bytes()),
        };
        let name = name.filter(|name| !name.is_empty());
        let reason = match &name {
            Some(name) if access.allows(rule, name, &self.request.user) => return Ok(()),
            Some(name) => not_allowed(rule, &shown(name)),
            None => "the certificate has no such name".to_owned(),
        };
        let user = shown(&self.request.user);
        let kind = match rule.method() {
            HbaMethod::Md5 | HbaMethod::ScramSha256 | HbaMethod::Password => {
                HbaRefusalKind::Password { user }
            }
            HbaMethod::Trust
            | HbaMethod::Reject
            | HbaMethod::Cert
            | HbaMethod::Peer
            | HbaMethod::Relay
            | HbaMethod::Login => HbaRefusalKind::Certificate { user },
        };
        Err((kind, Some(reason)))
    }

    /// The user of this machine that the other end of a Unix socket runs as may be the one it asks for.
    async fn runs_as_user(&self, access: &Access, rule: &HbaRule) -> Result<(), Shortcoming> {
        let refused = |reason| Err((HbaRefusalKind::Peer { user: shown(&self.request.user) }, Some(reason)));
        let number = match self.client.peer_user() {
            Ok(Some(number)) => number,
            Ok(None) => return refused("the connection is not one of a Unix socket".to_owned()),
            Err(error) => return refused(format!("the kernel does not tell the peer: {error}")),
        };
        // This may ask a directory over the network.
        let looked_up = tokio::task::spawn_blocking(move || User::from_uid(Uid::from_raw(number))).await;
        match looked_up {
            Ok(Ok(Some(found))) if access.allows(rule, found.name.as_bytes(), &self.request.user) => Ok(()),
            Ok(Ok(Some(found))) => refused(not_allowed(rule, &found.name)),
            Ok(Ok(None)) => refused(format!("user {number} of this machine has no name")),
            Ok(Err(error)) => refused(format!("the name of user {number} cannot be looked up: {error}")),
            Err(error) => refused(error.to_string()),
        }
    }
}

fn not_allowed(rule: &HbaRule, name: &str) -> String {
    match rule.map() {
        Some(map) => format!("no match in usermap \"{map}\" for \"{name}\""),
        None => format!("the client is \"{name}\""),
    }
}
