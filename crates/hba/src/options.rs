//! What stands behind a rule's method.
//!
//! Source: PostgreSQL 16, src/backend/libpq/hba.c, `parse_hba_auth_opt`.

use crate::kinds::{CertificateDemand, CertificateName, ConnectionKind, HbaMethod};
use crate::lines::Field;
use crate::problem::Wrong;

/// The options of a rule.
#[derive(Clone, Debug, Default)]
pub(crate) struct RuleOptions {
    pub(crate) map: Option<Box<str>>,
    pub(crate) demand: CertificateDemand,
    pub(crate) name: CertificateName,
}

impl RuleOptions {
    pub(crate) fn read<'f>(
        fields: impl Iterator<Item = &'f Field>,
        kind: ConnectionKind,
        method: HbaMethod,
    ) -> Result<Self, Wrong> {
        let mut options = RuleOptions::default();
        for token in fields.flatten() {
            let Some((name, value)) = token.text.split_once('=') else {
                let message = format!("authentication option not in name=value format: {}", token.text);
                return Err(Wrong::new(message));
            };
            options.put(name, value, kind, method)?;
        }
        if method == HbaMethod::Cert {
            options.demand = CertificateDemand::Named;
        }
        Ok(options)
    }

    fn put(&mut self, name: &str, value: &str, kind: ConnectionKind, method: HbaMethod) -> Result<(), Wrong> {
        let invalid = || Wrong::new(format!("invalid value for {name}: \"{value}\""));
        match name {
            "map" => match method {
                HbaMethod::Peer | HbaMethod::Cert => {
                    // An empty name is none.
                    self.map = (!value.is_empty()).then(|| value.into());
                    Ok(())
                }
                HbaMethod::Trust
                | HbaMethod::Reject
                | HbaMethod::Md5
                | HbaMethod::ScramSha256
                | HbaMethod::Password
                | HbaMethod::Relay
                | HbaMethod::Login => Err(Wrong::new(
                    "authentication option \"map\" is only valid for authentication methods peer and cert",
                )),
            },
            "clientcert" | "clientname" if kind != ConnectionKind::HostSsl => {
                Err(Wrong::new(format!("{name} can only be configured for \"hostssl\" rows")))
            }
            "clientcert" => {
                self.demand = match value {
                    "verify-full" => CertificateDemand::Named,
                    "verify-ca" if method == HbaMethod::Cert => {
                        let message =
                            "clientcert only accepts \"verify-full\" when using \"cert\" authentication";
                        return Err(Wrong::new(message));
                    }
                    "verify-ca" => CertificateDemand::Valid,
                    _ => return Err(invalid().hint("Write verify-ca or verify-full.")),
                };
                Ok(())
            }
            "clientname" => {
                self.name = match value {
                    "CN" => CertificateName::CommonName,
                    "DN" => CertificateName::DistinguishedName,
                    _ => return Err(invalid().hint("Write CN or DN.")),
                };
                Ok(())
            }
            _ => Err(Wrong::new(format!("unrecognized authentication option name: \"{name}\""))
                .hint("There are map, clientcert and clientname.")),
        }
    }
}
