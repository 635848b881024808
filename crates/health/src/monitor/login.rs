//! Whether the servers let a login of the monitoring role in, before a reload puts it in force.

use futures_util::future::join_all;

use crate::judge::{JudgeSettings, ProbeFailure};
use crate::login::MonitorLogin;
use crate::probe::{FailedAttempt, ServerHost, check_login};
use trunkline_topology::ServerSpec;

/// A server that refuses a login of the monitoring role.
#[derive(Debug, thiserror::Error)]
#[error("server \"{server}\" refuses the new login of the monitoring role: {failure}")]
pub struct LoginRefusal {
    /// Its name.
    pub server: String,
    /// What it said.
    pub failure: ProbeFailure,
}

/// Logs in on all of `servers` at once; one that does not answer within `connect_timeout`, or not now, refuses nothing.
///
/// # Errors
/// The first server that refuses the role, its password or its database.
pub async fn try_login(
    servers: &[ServerSpec],
    login: &MonitorLogin,
    settings: &JudgeSettings,
) -> Result<(), LoginRefusal> {
    let tries = servers.iter().map(async |spec| {
        let host = ServerHost::new(spec.host.clone(), spec.port);
        match check_login(&host, login, settings).await {
            Err(FailedAttempt { failure, .. }) if failure.is_refused_role() => {
                Err(LoginRefusal { server: spec.name.clone(), failure })
            }
            Ok(_) | Err(_) => Ok(()),
        }
    });
    join_all(tries).await.into_iter().collect()
}
