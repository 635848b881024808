//! A small language for scenarios about one parameter, so that tables of them can be read.
//!
//! A script is lines; `{n}` is the parameter, `{1}` and `{2}` are two of its values.
//!
//! - `A: SQL` runs it, `A pipes: SQL; SQL` runs several in one series with one Sync, always by the extended protocol.
//! - `A sees 1` and `A not 1` read the parameter and say whether value 1 is there on a direct connection.
//! - `A vanishes`, `A terminates`, `A enters` (logs in).

use crate::flight::{self, Flight};
use crate::scenario::{Act, Player, Scenario};

/// A parameter with two values, and how they are shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Knob {
    /// For names of cases.
    pub(crate) key: &'static str,
    /// The parameter.
    pub(crate) name: &'static str,
    /// Two values, as they are set.
    pub(crate) values: [&'static str; 2],
    /// The same as they are shown.
    pub(crate) shown: [&'static str; 2],
}

/// A plain parameter.
pub(crate) const PLAIN: Knob =
    Knob { key: "plain", name: "work_mem", values: ["7777kB", "8888kB"], shown: ["7777kB", "8888kB"] };
/// One that is told by ParameterStatus.
pub(crate) const REPORTED: Knob = Knob {
    key: "reported",
    name: "TimeZone",
    values: ["Asia/Tokyo", "Asia/Kolkata"],
    shown: ["Asia/Tokyo", "Asia/Kolkata"],
};
/// One that no server knows before it is set.
pub(crate) const CUSTOM: Knob =
    Knob { key: "custom", name: "torture.token", values: ["seven", "eight"], shown: ["seven", "eight"] };
/// One whose value is made of the old one and the new one.
pub(crate) const COMPOSITE: Knob = Knob {
    key: "composite",
    name: "DateStyle",
    values: ["German", "SQL, DMY"],
    shown: ["German, ", "SQL, DMY"],
};

/// By which messages SQL is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Query.
    Simple,
    /// Parse, Bind, Describe, Execute, Sync.
    Extended,
}

impl Protocol {
    /// For names of cases.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Extended => "extended",
        }
    }

    /// SQL by these messages.
    pub(crate) fn run(self, sql: &str) -> Flight {
        match self {
            Self::Simple => flight::query(sql),
            Self::Extended => Flight::joined(&[flight::unnamed(sql), flight::sync()]),
        }
    }
}

impl Knob {
    /// SQL that reads it, whether it is known or not.
    pub(crate) fn read(&self) -> String {
        format!("SELECT current_setting('{}', true)", self.name)
    }

    /// Puts the parameter and its values into a template.
    pub(crate) fn fill(&self, template: &str) -> String {
        let [first, second] = self.values;
        template.replace("{n}", self.name).replace("{1}", first).replace("{2}", second)
    }
}

/// Adds the lines of a script to a scenario.
///
/// # Panics
/// When a line is not of the language: a fault of this program that any run of its tests finds.
pub(crate) fn scripted(scenario: Scenario, script: &str, knob: &Knob, protocol: Protocol) -> Scenario {
    let lines = script.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.fold(scenario, |scenario, line| {
        add(scenario, line, knob, protocol).unwrap_or_else(|| panic!("no line of a script: {line}"))
    })
}

fn add(scenario: Scenario, line: &str, knob: &Knob, protocol: Protocol) -> Option<Scenario> {
    let (letter, rest) = line.split_at_checked(1)?;
    let player = match letter {
        "A" => Player::A,
        "B" => Player::B,
        "C" => Player::C,
        _ => return None,
    };
    if let Some(sql) = rest.strip_prefix(": ") {
        return Some(scenario.flight(player, &[protocol.run(&knob.fill(sql))]));
    }
    if let Some(sql) = rest.strip_prefix(" pipes: ") {
        let mut parts: Vec<Flight> = sql.split("; ").map(|sql| flight::unnamed(&knob.fill(sql))).collect();
        parts.push(flight::sync());
        return Some(scenario.flight(player, &parts));
    }
    let shown = |number: &str| match number {
        "1" => Some(knob.shown[0]),
        "2" => Some(knob.shown[1]),
        _ => None,
    };
    if let Some(number) = rest.strip_prefix(" sees ") {
        return Some(scenario.flight(player, &[protocol.run(&knob.read())]).shows(shown(number)?));
    }
    if let Some(number) = rest.strip_prefix(" not ") {
        return Some(scenario.flight(player, &[protocol.run(&knob.read())]).hides(shown(number)?));
    }
    match rest {
        " vanishes" => Some(scenario.step(player, Act::Vanish)),
        " terminates" => Some(scenario.step(player, Act::Terminate)),
        " enters" => Some(scenario.connect(player, &[])),
        _ => None,
    }
}
