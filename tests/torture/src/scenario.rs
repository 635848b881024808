//! A script of a few clients.

use crate::flight::{self, Flight};

/// One of the clients of a scenario. `A` is the one who does something, `B` the stranger; `C` and `D` where a case needs more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Player {
    /// The one whose state the case is about.
    A,
    /// The stranger.
    B,
    /// A third.
    C,
    /// A fourth.
    D,
}

impl Player {
    /// Its letter.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            Self::A => 'A',
            Self::B => 'B',
            Self::C => 'C',
            Self::D => 'D',
        }
    }
}

/// How long a client reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Until so many ReadyForQuery have come.
    Ready(usize),
    /// Until a message of this type.
    Tag(u8),
    /// Until the connection ends.
    End,
}

/// What is done in a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Logs in, with further startup parameters. A client that acts without having logged in does so first, without any.
    Connect(Vec<(String, String)>),
    /// Sends, and reads nothing yet.
    Send(Flight),
    /// Reads what is still to come.
    Read(Until),
    /// Sends and reads.
    Ask(Flight, Until),
    /// Sends the same again and again until what is seen contains the text: for what a server does in its own time.
    AskUntil(Flight, String),
    /// Reads until a notification is there; one that has come before will do.
    AwaitNotification,
    /// Sends this client's CancelRequest.
    Cancel,
    /// Terminate, and the connection is closed.
    Terminate,
    /// The connection is closed without a word.
    Vanish,
    /// Runs SQL beside the scenario, on a direct connection.
    Beside(String),
    /// Waits, on a direct connection, until some server process runs a statement with this text, or waits in it for a lock.
    AwaitActive(String),
}

/// What a step is about: it tells the one who reads a difference what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mark {
    /// A direct connection shows this text here: the client's own state. Missing behind a pooler, it is lost.
    Shows(String),
    /// A direct connection does not show this text here: the state of another. There behind a pooler, it has leaked.
    Hides(String),
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScenarioStep {
    /// Who acts.
    pub player: Player,
    /// What is done.
    pub act: Act,
    /// What it is about.
    pub marks: Vec<Mark>,
}

/// What a scenario needs of the server or the role; without it the scenario is skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Any role that may create a schema.
    Nothing,
    /// A superuser.
    Superuser,
    /// `max_prepared_transactions` above 0.
    PreparedTransactions,
}

/// A script of a few clients, with what makes it a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// Unique, of letters, digits and `-`.
    pub name: String,
    /// What it does, in a few words.
    pub about: String,
    /// What it needs.
    pub need: Need,
    /// SQL that is run before each run, on a direct connection, with `search_path` as the clients have it.
    pub setup: Vec<String>,
    /// SQL that is run behind each run, however it ended; errors of it mean nothing.
    pub cleanup: Vec<String>,
    /// The steps, one after the other.
    pub steps: Vec<ScenarioStep>,
}

impl Scenario {
    /// An empty one.
    #[must_use]
    pub fn new(name: impl Into<String>, about: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            about: about.into(),
            need: Need::Nothing,
            setup: Vec::new(),
            cleanup: Vec::new(),
            steps: Vec::new(),
        }
    }

    /// With a need.
    #[must_use]
    pub fn needs(mut self, need: Need) -> Self {
        self.need = need;
        self
    }

    /// With SQL that prepares the database.
    #[must_use]
    pub fn setup(mut self, sql: impl Into<String>) -> Self {
        self.setup.push(sql.into());
        self
    }

    /// With SQL that puts back what would reach other scenarios.
    #[must_use]
    pub fn cleanup(mut self, sql: impl Into<String>) -> Self {
        self.cleanup.push(sql.into());
        self
    }

    /// With a table `torture.NAME` made anew with `columns`, and rows of a SELECT or VALUES if there are any.
    #[must_use]
    pub fn table(self, name: &str, columns: &str, rows: &str) -> Self {
        let scenario = self.setup(format!(
            "DROP TABLE IF EXISTS torture.{name} CASCADE; CREATE TABLE torture.{name} ({columns})"
        ));
        if rows.is_empty() {
            return scenario;
        }
        scenario.setup(format!("INSERT INTO torture.{name} {rows}"))
    }

    /// With one more step.
    #[must_use]
    pub fn step(mut self, player: Player, act: Act) -> Self {
        self.steps.push(ScenarioStep { player, act, marks: Vec::new() });
        self
    }

    /// Sends these in one write, and reads all ReadyForQuery that are owed for them.
    #[must_use]
    pub fn flight(self, player: Player, parts: &[Flight]) -> Self {
        let flight = Flight::joined(parts);
        let until = Until::Ready(flight.readies);
        self.step(player, Act::Ask(flight, until))
    }

    /// Sends these in one write, and reads nothing.
    #[must_use]
    pub fn send(self, player: Player, parts: &[Flight]) -> Self {
        self.step(player, Act::Send(Flight::joined(parts)))
    }

    /// Reads what is still to come.
    #[must_use]
    pub fn read(self, player: Player, until: Until) -> Self {
        self.step(player, Act::Read(until))
    }

    /// A simple query.
    #[must_use]
    pub fn ask(self, player: Player, sql: impl AsRef<str>) -> Self {
        self.flight(player, &[flight::query(sql.as_ref())])
    }

    /// A simple query of A.
    #[must_use]
    pub fn a(self, sql: impl AsRef<str>) -> Self {
        self.ask(Player::A, sql)
    }

    /// A simple query of B.
    #[must_use]
    pub fn b(self, sql: impl AsRef<str>) -> Self {
        self.ask(Player::B, sql)
    }

    /// A statement of A by the extended protocol.
    #[must_use]
    pub fn ax(self, sql: impl AsRef<str>) -> Self {
        self.flight(Player::A, &[flight::unnamed(sql.as_ref()), flight::sync()])
    }

    /// A statement of B by the extended protocol.
    #[must_use]
    pub fn bx(self, sql: impl AsRef<str>) -> Self {
        self.flight(Player::B, &[flight::unnamed(sql.as_ref()), flight::sync()])
    }

    /// Logs a client in, with further startup parameters.
    #[must_use]
    pub fn connect(self, player: Player, parameters: &[(&str, &str)]) -> Self {
        let parameters = parameters.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        self.step(player, Act::Connect(parameters.collect()))
    }

    /// Runs SQL on a direct connection beside.
    #[must_use]
    pub fn beside(self, sql: impl Into<String>) -> Self {
        self.step(Player::A, Act::Beside(sql.into()))
    }

    /// The step before shows this on a direct connection: see [`Mark::Shows`].
    #[must_use]
    pub fn shows(self, text: impl Into<String>) -> Self {
        self.mark(Mark::Shows(text.into()))
    }

    /// The step before does not show this on a direct connection: see [`Mark::Hides`].
    #[must_use]
    pub fn hides(self, text: impl Into<String>) -> Self {
        self.mark(Mark::Hides(text.into()))
    }

    fn mark(mut self, mark: Mark) -> Self {
        let step = self.steps.last_mut().expect("a mark follows its step");
        step.marks.push(mark);
        self
    }

    /// Whether it says what a direct connection must show: without that it would test nothing.
    #[must_use]
    pub fn has_effect(&self) -> bool {
        self.steps.iter().flat_map(|step| &step.marks).any(|mark| matches!(mark, Mark::Shows(_)))
    }
}

impl ScenarioStep {
    /// Who does what, for the report.
    #[must_use]
    pub fn label(&self) -> String {
        let player = self.player.letter();
        match &self.act {
            Act::Connect(parameters) => {
                let words: Vec<String> =
                    parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("{player} connects {}", words.join(" "))
            }
            Act::Send(flight) => format!("{player} sends {}", flight.label),
            Act::Read(_) => format!("{player} reads on"),
            Act::Ask(flight, _) => format!("{player}: {}", flight.label),
            Act::AskUntil(flight, text) => format!("{player}: {} until {text}", flight.label),
            Act::AwaitNotification => format!("{player} awaits a notification"),
            Act::Cancel => format!("{player} cancels"),
            Act::Terminate => format!("{player} terminates"),
            Act::Vanish => format!("{player} vanishes"),
            Act::Beside(sql) => format!("beside: {sql}"),
            Act::AwaitActive(text) => format!("until {text} runs"),
        }
    }
}
