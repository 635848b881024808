//! Prints every change of state: `watch "user=... password=... dbname=..." primary=127.0.0.1:5441 replica1=...`
//!
//! The first server is expected to be the primary, the others replicas.

use std::time::Instant;

use trunkline_health::{JudgeSettings, Monitor, MonitorLogin, MonitorSettings};
use trunkline_topology::{AdminState, ExpectedRole, ServerSpec};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let login = arguments.next().ok_or("expected a login, then name=host:port ...")?.parse()?;
    let login = MonitorLogin { config: login, ..MonitorLogin::default() };
    let mut servers = Vec::new();
    for argument in arguments {
        let (name, address) = argument.split_once('=').ok_or("expected name=host:port")?;
        let (host, port) = address.rsplit_once(':').ok_or("expected host:port")?;
        servers.push(ServerSpec {
            name: name.to_owned(),
            host: host.to_owned(),
            port: port.parse()?,
            expected_role: if servers.is_empty() { ExpectedRole::Primary } else { ExpectedRole::Replica },
            weight: 100,
            admin: AdminState::Ready,
            ..ServerSpec::default()
        });
    }
    let max_lag = std::env::var("MAX_LAG_SECONDS").map_or(Ok(10), |seconds| seconds.parse())?;
    let judge = JudgeSettings::new(std::time::Duration::from_secs(max_lag), JudgeSettings::default().tick);
    let health =
        Monitor::start(MonitorSettings { servers, login, judge }, &tokio::runtime::Handle::current());
    let started = Instant::now();
    let mut changed = health.changed();
    loop {
        let snapshot = health.load_full();
        println!("{:8.3}  split_brain={}", started.elapsed().as_secs_f64(), snapshot.split_brain);
        for server in &snapshot.servers {
            println!("          {:10} {:8} {:8} {}", server.name, server.role, server.state, server.reason);
        }
        changed.changed().await?;
    }
}
