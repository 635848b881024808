//! `pgload`: a closed loop of clients. Prints its figures as one line of JSON.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use serde_json::json;
use trunkline_bench::load::{Endpoint, Mode, Negotiation, Plan, bulk, closed_loop, hold, reconnect};
use trunkline_bench::tls::connector;

/// A closed loop of clients against a server that asks for no password
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    load: Load,
    /// Port on 127.0.0.1
    #[arg(long, global = true, default_value_t = 5432)]
    port: u16,
    /// TLS 1.3, and the certificate that vouches for the server's
    #[arg(long, global = true, value_name = "ROOT")]
    tls: Option<PathBuf>,
    /// Who begins with TLS
    #[arg(long, global = true, value_enum, default_value_t = Negotiation::Postgres)]
    negotiation: Negotiation,
    /// Clients
    #[arg(long, global = true, default_value_t = 1)]
    clients: usize,
    /// How statements are sent
    #[arg(long, global = true, value_enum, default_value_t = Mode::Simple)]
    mode: Mode,
    /// The statement
    #[arg(long, global = true, default_value = "SELECT 1")]
    sql: String,
    /// Seconds before the measured window
    #[arg(long, global = true, default_value_t = 0.3)]
    warm_up: f64,
    /// Seconds that are measured
    #[arg(long, global = true, default_value_t = 1.0)]
    seconds: f64,
    /// Process whose processor time counts; may be given more than once
    #[arg(long, global = true)]
    pid: Vec<u32>,
}

#[derive(Subcommand)]
enum Load {
    /// Sessions that ask again and again
    Loop,
    /// Clients that log in, ask once and leave, again and again
    Reconnect,
    /// One session with large answers
    Bulk {
        /// How many
        #[arg(long, default_value_t = 1)]
        times: u32,
    },
    /// Opens sessions, says so, and holds them until standard input ends
    Hold,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let connector = args.tls.as_deref().map(connector).transpose()?;
    let tls = connector.map(|connector| (args.negotiation, connector));
    let plan = Plan {
        endpoint: Endpoint { port: args.port, tls },
        clients: args.clients,
        mode: args.mode,
        sql: args.sql,
        warm_up: Duration::from_secs_f64(args.warm_up),
        window: Duration::from_secs_f64(args.seconds),
        pids: args.pid,
    };
    let figures = match args.load {
        Load::Loop => closed_loop(&plan).await?,
        Load::Reconnect => reconnect(&plan).await?,
        Load::Bulk { times } => bulk(&plan, times).await?,
        Load::Hold => {
            let held = hold(&plan).await?;
            println!("{}", json!({"sessions": held.len()}));
            std::io::stdout().flush()?;
            std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
            return Ok(());
        }
    };
    println!("{}", figures.to_json());
    Ok(())
}
