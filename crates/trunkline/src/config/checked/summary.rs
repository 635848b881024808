//! What a valid configuration says, in a few lines.

use std::fmt::Write as _;

use trunkline_pool::PoolMode;
use trunkline_topology::{AdminState, ExpectedRole};

use super::CheckedConfig;
use crate::config::units::show_duration;
use crate::config::words::Word as _;

impl CheckedConfig {
    /// A few lines for `trunkline check`. No secrets.
    #[must_use]
    pub fn summary(&self) -> String {
        let (proxy, mut out) = (&self.proxy, String::new());
        for server in &proxy.health.servers {
            let role = match server.expected_role {
                ExpectedRole::Any => "any role",
                ExpectedRole::Primary => "primary",
                ExpectedRole::Replica => "replica",
            };
            let admin = match server.admin {
                AdminState::Ready => "",
                AdminState::Drain => ", drain",
                AdminState::Maint => ", maint",
            };
            let _ = writeln!(
                out,
                "  server    {} {}:{} ({role}, weight {}{admin})",
                server.name, server.host, server.port, server.weight
            );
        }
        for source in &proxy.discovery.sources {
            let _ = writeln!(
                out,
                "  source    {} ({}, weight {})",
                source.name,
                source.kind.as_str(),
                source.weight
            );
        }
        for listener in &proxy.listeners {
            let options = &listener.options;
            let mode = options.pool_mode.unwrap_or(proxy.pool.mode);
            let pooled = if mode == PoolMode::Transaction { ", pool_mode transaction" } else { "" };
            let _ = writeln!(
                out,
                "  listener  {} {} ({}, {}{pooled})",
                listener.name,
                listener.address,
                options.target_session_attrs,
                options.balance.word()
            );
        }
        for (name, address) in [("http", proxy.http), ("agent", proxy.agent)] {
            let address = address.map_or_else(|| "off".to_owned(), |address| address.to_string());
            let _ = writeln!(out, "  {name:<9} {address}");
        }
        let judge = &proxy.health.judge;
        let _ = match &proxy.auth.hba_file {
            Some(file) => writeln!(out, "  auth      by the rules of {file}"),
            None => writeln!(out, "  auth      {}", proxy.auth.mode.word()),
        };
        let _ = writeln!(
            out,
            "  health    max_lag {}, tick {}, fallback {}",
            show_duration(judge.max_lag),
            show_duration(judge.tick),
            proxy.fallback.mode.word()
        );
        out
    }
}
