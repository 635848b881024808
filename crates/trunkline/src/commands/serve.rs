//! `trunkline serve`.

use crate::config::flags::{Flags, ProxyFlags, TargetFlags};
use crate::{Exit, Failure};

const AFTER: &str = "\
Examples:
  trunkline serve --config /etc/trunkline.toml
  trunkline serve --primary primary=127.0.0.1:5431 \\
      --replica replica1=127.0.0.1:5433 --replica replica2=127.0.0.1:5436 \\
      --reads 127.0.0.1:5434 --writes 127.0.0.1:5435 --http 127.0.0.1:8008 \\
      --monitor \"user=monitor password=secret dbname=postgres\" --max-lag 2s
  trunkline serve --primary db1 --replica db2 --replica db3     reads on 127.0.0.1:5434
  TRUNKLINE__MONITOR__PASSWORD=secret trunkline serve --log-statements 200ms

Signals: SIGTERM ends sessions at their idle points, within [timeouts] drain, then exits; SIGINT ends at once;
SIGHUP reads the configuration again and logs what cannot change live.

Exit status: 0 ended by a signal, 1 failed while running, 2 wrong command line or configuration.";

/// Flags of `trunkline serve`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER)]
pub(crate) struct Serve {
    #[command(flatten)]
    targets: TargetFlags,
    #[command(flatten)]
    proxy: ProxyFlags,
}

impl Serve {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let flags = Flags::from(&self.targets).with_proxy(&self.proxy);
        let _ = flags;
        Ok(Exit::Success)
    }
}
