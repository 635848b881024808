//! `torture`: plays scenarios on a direct connection and through a pooler, and prints who could tell.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use trunkline_torture::dsn::Dsn;
use trunkline_torture::reasons::ReasonsCommand;
use trunkline_torture::report::{Allowed, CaseResult};
use trunkline_torture::run::{TortureOptions, run};

const EXAMPLES: &str = "\
Examples:
  torture --dsn postgresql://app:secret@127.0.0.1:6432/app --direct postgresql://app:secret@127.0.0.1:5432/app
  torture --dsn ... --direct ... --pooler pgbouncer --format markdown >table.md
  torture --dsn ... --direct ... --only set- --only cursor-      only cases with these in their names
  torture --dsn ... --direct ... --format markdown --reasons \"trunkline sessions --json | jq -r '.sessions[].pinned'\"
  torture --dsn ... --direct ... --allow known.txt               a line of it: NAME, or NAME VERDICT; `* waits` for a small pool

It drops and makes the schema \"torture\" of the database, and ends server connections of the user there between cases: use a
database of its own. A superuser plays all cases, another role those that need none.

Verdicts: same; waits (the pooler kept its server connections for the other clients); differs; refused; hang; lost (a client
misses its own state); leak (a client sees another's); void (the direct server does not show the effect); skipped.
Exit status: 0 all are the same, skipped or allowed; 1 not so; 2 could not be played.";

/// What can a client of a pooler tell? Each case is played on direct connections and through the pooler, and compared.
#[derive(Debug, Parser)]
#[command(name = "torture", after_help = EXAMPLES, max_term_width = 120)]
struct Arguments {
    /// Connection string of the pooler.
    #[arg(long)]
    dsn: Option<String>,
    /// Connection string of the server behind it: the same user and database.
    #[arg(long)]
    direct: Option<String>,
    /// Which pooler it is, for the heading of the table.
    #[arg(long, value_enum, default_value = "trunkline")]
    pooler: PoolerName,
    /// Only cases whose name contains this; may be given more than once.
    #[arg(long)]
    only: Vec<String>,
    /// How the table is written.
    #[arg(long, value_enum, default_value = "table")]
    format: TableFormat,
    /// Known differences: lines of NAME or NAME VERDICT, `*` for any name.
    #[arg(long)]
    allow: Option<PathBuf>,
    /// Longest wait for an answer, in milliseconds.
    #[arg(long, default_value_t = 3000, value_parser = clap::value_parser!(u64).range(50..=600_000))]
    wait_ms: u64,
    /// How many databases to play on at once: above 1, DATABASE_torture_1 and so on are made and dropped, and the pooler
    /// must serve them.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// A command of the shell that prints, one on a line, why the pooler keeps server connections for clients. It is asked
    /// after each step, and the table has what it said; with one job only.
    #[arg(long, value_name = "COMMAND")]
    reasons: Option<String>,
    /// The pooler reads from standbys of the direct server, too: they are waited for before another client acts.
    #[arg(long)]
    standbys: bool,
    /// Prints the names of the cases with what they do, and plays nothing.
    #[arg(long)]
    list: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum PoolerName {
    Trunkline,
    Pgbouncer,
    Pgdog,
    Pgcat,
    Odyssey,
}

impl PoolerName {
    fn title(self) -> &'static str {
        match self {
            Self::Trunkline => "Trunkline",
            Self::Pgbouncer => "PgBouncer",
            Self::Pgdog => "PgDog",
            Self::Pgcat => "PgCat",
            Self::Odyssey => "Odyssey",
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum TableFormat {
    Table,
    Json,
    Markdown,
}

fn main() -> ExitCode {
    match torture(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn torture(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if arguments.list {
        for scenario in trunkline_torture::cases::all() {
            say(&format!("{:<36} {}\n", scenario.name, scenario.about))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let dsn = |text: &Option<String>, flag: &str| {
        let text = text.as_deref().with_context(|| format!("{flag} is missing; see --help"))?;
        Dsn::parse(text).with_context(|| flag.to_owned())
    };
    let options = TortureOptions {
        pooler: dsn(&arguments.dsn, "--dsn")?,
        direct: dsn(&arguments.direct, "--direct")?,
        only: arguments.only.clone(),
        wait: Duration::from_millis(arguments.wait_ms),
        jobs: arguments.jobs,
        reasons: arguments.reasons.clone().map(ReasonsCommand::new),
        standbys: arguments.standbys,
    };
    let allowed = match &arguments.allow {
        None => Allowed::default(),
        Some(path) => {
            let text = std::fs::read_to_string(path);
            Allowed::parse(&text.with_context(|| format!("--allow {}", path.display()))?)
        }
    };
    let done = AtomicUsize::new(0);
    let shows_progress = std::io::stderr().is_terminal();
    let table = run(&options, &|result, total| {
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        if shows_progress {
            progress(result, done, total);
        }
    })?;
    say(&match arguments.format {
        TableFormat::Table => table.text(),
        TableFormat::Json => table.json(arguments.pooler.title()),
        TableFormat::Markdown => table.markdown(arguments.pooler.title()),
    })?;
    Ok(if table.unaccepted(&allowed).is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One line that the next one overwrites.
fn progress(result: &CaseResult, done: usize, total: usize) {
    let end = if done == total { "\n" } else { "" };
    eprint!("\r\x1b[K{done}/{total} {} {}{end}", result.name, result.judged.verdict);
}

fn say(text: &str) -> anyhow::Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("the table could not be written")
}
