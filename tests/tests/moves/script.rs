//! What is done to both sessions, as text: a line a step, so that a script can be kept in a file.

use std::fmt;
use std::str::FromStr;

use serde_json::{Value, json};

/// What sends a session to another server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Move {
    /// Its server is drained by the operator.
    Drain,
    /// Its server is taken into maintenance.
    Maint,
    /// Its connection is cut without a word.
    Lost,
    /// Its server is killed, and started again later.
    Crash,
    /// Its server stops to replay, until it lags.
    Lag,
    /// Its server has more sessions than its share.
    Spread,
}

/// A statement or a portal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Statement,
    Portal,
}

/// One message of the client, or something that happens between two of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// A Query, and its answer is read.
    Query(String),
    /// A Query whose answer is read later.
    UnreadQuery(String),
    Parse {
        name: String,
        types: Vec<u32>,
        sql: String,
    },
    Bind {
        portal: String,
        statement: String,
        formats: Vec<u16>,
        parameters: Vec<Option<String>>,
        results: Vec<u16>,
    },
    Describe(Target, String),
    Execute {
        portal: String,
        rows: u32,
    },
    Close(Target, String),
    /// A Flush, and what is due is read.
    Flush,
    /// A Sync, and everything up to its ReadyForQuery is read.
    Sync,
    /// A Sync whose ReadyForQuery is read later.
    UnreadSync,
    /// A FunctionCall with text arguments.
    Call {
        function: u32,
        arguments: Vec<String>,
    },
    /// The primary changes the database or its roles, and all replicas have replayed it.
    Ddl(String),
    /// The client is silent for so many milliseconds.
    Wait(u32),
    /// The operator ends the session.
    Kill,
    Move(Move),
}

/// Stands for the newline in a line.
const NEWLINE: &str = "␤";

/// Who logs in, and what is done then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Script {
    /// `app`, `owner` or `super`, see the world.
    pub(crate) user: String,
    /// Startup parameters beyond user and database.
    pub(crate) startup: Vec<(String, String)>,
    pub(crate) steps: Vec<Step>,
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "login {} {}", self.user, json!(self.startup))?;
        self.steps.iter().try_for_each(|step| writeln!(f, "{}", step.to_string().replace('\n', NEWLINE)))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Query(sql) => write!(f, "query {sql}"),
            Self::UnreadQuery(sql) => write!(f, "unread-query {sql}"),
            Self::Parse { name, types, sql } => write!(f, "parse {} {} {sql}", json!(name), json!(types)),
            Self::Bind { portal, statement, formats, parameters, results } => {
                write!(f, "bind {}", json!([portal, statement, formats, parameters, results]))
            }
            Self::Describe(target, name) => write!(f, "describe {} {}", target.word(), json!(name)),
            Self::Execute { portal, rows } => write!(f, "execute {}", json!([portal, rows])),
            Self::Close(target, name) => write!(f, "close {} {}", target.word(), json!(name)),
            Self::Flush => write!(f, "flush"),
            Self::Sync => write!(f, "sync"),
            Self::UnreadSync => write!(f, "unread-sync"),
            Self::Call { function, arguments } => write!(f, "call {}", json!([function, arguments])),
            Self::Ddl(sql) => write!(f, "ddl {sql}"),
            Self::Wait(ms) => write!(f, "wait {ms}"),
            Self::Kill => write!(f, "kill"),
            Self::Move(how) => write!(f, "move {}", how.word()),
        }
    }
}

impl Move {
    const ALL: [Self; 6] = [Self::Drain, Self::Maint, Self::Lost, Self::Crash, Self::Lag, Self::Spread];

    fn word(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Maint => "maint",
            Self::Lost => "lost",
            Self::Crash => "crash",
            Self::Lag => "lag",
            Self::Spread => "spread",
        }
    }
}

impl Target {
    fn word(self) -> &'static str {
        match self {
            Self::Statement => "statement",
            Self::Portal => "portal",
        }
    }

    fn parse(word: &str) -> Self {
        match word {
            "statement" => Self::Statement,
            "portal" => Self::Portal,
            other => panic!("{other} is neither statement nor portal"),
        }
    }

    /// Its letter in Describe and Close.
    pub(crate) fn letter(self) -> u8 {
        match self {
            Self::Statement => b'S',
            Self::Portal => b'P',
        }
    }
}

impl FromStr for Script {
    type Err = String;

    /// Empty lines and those that begin with `#` say nothing to the machine.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let login = lines.next().and_then(|line| line.strip_prefix("login ")).ok_or("no login")?;
        let (user, startup) = login.split_once(' ').ok_or("a login names the user and a list")?;
        let startup = serde_json::from_str(startup).map_err(|error| error.to_string())?;
        let steps = lines.map(|line| step(&line.replace(NEWLINE, "\n"))).collect::<Result<_, _>>()?;
        Ok(Self { user: user.to_owned(), startup, steps })
    }
}

fn step(line: &str) -> Result<Step, String> {
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    let wrong = |error: serde_json::Error| format!("{line}: {error}");
    Ok(match verb {
        "query" => Step::Query(rest.to_owned()),
        "unread-query" => Step::UnreadQuery(rest.to_owned()),
        "parse" => parse(rest).map_err(wrong)?,
        "bind" => {
            let (portal, statement, formats, parameters, results) =
                serde_json::from_str(rest).map_err(wrong)?;
            Step::Bind { portal, statement, formats, parameters, results }
        }
        "describe" | "close" => {
            let (target, name) = rest.split_once(' ').ok_or(line)?;
            let (target, name) = (Target::parse(target), serde_json::from_str(name).map_err(wrong)?);
            if verb == "close" { Step::Close(target, name) } else { Step::Describe(target, name) }
        }
        "execute" => {
            let (portal, rows) = serde_json::from_str(rest).map_err(wrong)?;
            Step::Execute { portal, rows }
        }
        "flush" => Step::Flush,
        "sync" => Step::Sync,
        "unread-sync" => Step::UnreadSync,
        "call" => {
            let (function, arguments) = serde_json::from_str(rest).map_err(wrong)?;
            Step::Call { function, arguments }
        }
        "ddl" => Step::Ddl(rest.to_owned()),
        "wait" => Step::Wait(rest.parse().map_err(|_| line)?),
        "kill" => Step::Kill,
        "move" => Step::Move(Move::ALL.into_iter().find(|how| how.word() == rest).ok_or(line)?),
        other => return Err(format!("no such step: {other}")),
    })
}

/// `"name" [types] SQL`
fn parse(rest: &str) -> Result<Step, serde_json::Error> {
    let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
    let name = values.next().unwrap_or(Ok(Value::Null))?;
    let types = values.next().unwrap_or(Ok(Value::Null))?;
    let sql = rest[values.byte_offset()..].trim_start().to_owned();
    Ok(Step::Parse { name: serde_json::from_value(name)?, types: serde_json::from_value(types)?, sql })
}
