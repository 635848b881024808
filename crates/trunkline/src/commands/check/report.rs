//! The servers' answers as a table, and what is wrong with them.

use trunkline_auth::secrets::{SecretsAccess, mend_login};
use trunkline_codec::ids::{Lsn, SystemIdentifier, TimelineId};
use trunkline_health::judge::{ProbeFailure, ProbePhase, Receiver, RoleFacts};
use trunkline_topology::{ExpectedRole, ServerSpec};

use super::connect::{ServerAnswer, ServerFacts};
use crate::commands::status::columns;

const HEAD: [&str; 10] = [
    "SERVER",
    "ADDRESS",
    "REACHED",
    "LOGIN",
    "PG_MONITOR",
    "SECRETS",
    "ROLE",
    "TIMELINE",
    "VERSION",
    "BEHIND",
];

/// The table, and each fault with what mends it. `role` is the monitoring role.
pub(super) fn report(answers: &[ServerAnswer], role: &str) -> (String, Vec<String>) {
    let primary = primary_of(answers);
    let rows: Vec<_> = answers.iter().map(|answer| row(answer, primary)).collect();
    let table = columns(HEAD, &rows, &[7, 9], answers.iter().map(|_| None));
    let mut faults: Vec<String> = answers.iter().flat_map(|answer| faults(answer, role, primary)).collect();
    faults.extend(fault_of_all(answers));
    (table, faults)
}

/// What standbys are compared with: where the first primary is.
#[derive(Clone, Copy)]
struct Primary {
    flush: Option<Lsn>,
    timeline: Option<TimelineId>,
    cluster: Option<SystemIdentifier>,
}

fn primary_of(answers: &[ServerAnswer]) -> Option<Primary> {
    answers.iter().find_map(|answer| match &answer.asked {
        Ok(ServerFacts { facts, .. }) => match &facts.role {
            RoleFacts::Primary(primary) => Some(Primary {
                flush: primary.flush,
                timeline: primary.timeline,
                cluster: facts.system_identifier,
            }),
            RoleFacts::Standby(_) => None,
        },
        Err(_) => None,
    })
}

/// The timeline that a standby receives, or a primary writes, where it says.
fn timeline_of(facts: &RoleFacts) -> Option<TimelineId> {
    match facts {
        RoleFacts::Primary(facts) => facts.timeline,
        RoleFacts::Standby(facts) => match facts.receiver {
            Receiver::Present { timeline, .. } => timeline,
            Receiver::Absent | Receiver::Hidden | Receiver::Refused => None,
        },
    }
}

fn row(answer: &ServerAnswer, primary: Option<Primary>) -> [String; 10] {
    let ServerSpec { name, host, port, .. } = &answer.spec;
    let place = [name.clone(), format!("{host}:{port}")];
    let unknown = || "-".to_owned();
    let rest = match &answer.asked {
        Err((phase, failure)) => {
            let login = if *phase == ProbePhase::Query { "yes" } else { "no" };
            let [reached, login] = if is_reached(*phase, failure) { ["yes", login] } else { ["no", "-"] };
            [
                reached.to_owned(),
                login.to_owned(),
                unknown(),
                unknown(),
                unknown(),
                unknown(),
                unknown(),
                unknown(),
            ]
        }
        Ok(said) => {
            let timeline = timeline_of(&said.facts.role);
            let behind = match &said.facts.role {
                RoleFacts::Primary(_) => None,
                RoleFacts::Standby(facts) => {
                    primary.and_then(|primary| Some(primary.flush?.bytes_since(facts.replay?)))
                }
            };
            [
                "yes".to_owned(),
                "yes".to_owned(),
                if said.sees_all { "yes" } else { "no" }.to_owned(),
                secrets(said).to_owned(),
                role_of(said).to_owned(),
                timeline.map_or_else(unknown, |timeline| timeline.to_string()),
                said.facts
                    .version
                    .map_or_else(unknown, |number| format!("{}.{}", number / 10_000, number % 10_000)),
                behind.map_or_else(unknown, show_bytes),
            ]
        }
    };
    let mut cells = place.into_iter().chain(rest);
    std::array::from_fn(|_| cells.next().unwrap_or_default())
}

/// Whether PostgreSQL, or something else, answered there.
fn is_reached(phase: ProbePhase, failure: &ProbeFailure) -> bool {
    phase == ProbePhase::Query
        || matches!(
            failure,
            ProbeFailure::Refusal { .. }
                | ProbeFailure::Tls(_)
                | ProbeFailure::Malformed(_)
                | ProbeFailure::Lost(_)
        )
}

fn secrets(said: &ServerFacts) -> &'static str {
    match &said.secrets {
        None => "-",
        Some(Err(_)) => "no",
        Some(Ok(SecretsAccess::PgAuthid)) => "pg_authid",
        Some(Ok(SecretsAccess::Function)) => "function",
        Some(Ok(SecretsAccess::OwnQuery)) => "[auth] query",
    }
}

fn role_of(said: &ServerFacts) -> &'static str {
    match said.facts.role {
        RoleFacts::Primary(_) => "primary",
        RoleFacts::Standby(_) => "standby",
    }
}

fn show_bytes(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes / 1024),
        _ => format!("{} MiB", bytes / 1_048_576),
    }
}

/// What is wrong with one server.
fn faults(answer: &ServerAnswer, role: &str, primary: Option<Primary>) -> Vec<String> {
    let spec = &answer.spec;
    let fault = |what: &str, hint: &str| {
        format!("server {} ({}:{}): {what}\n  HINT: {hint}", spec.name, spec.host, spec.port)
    };
    let said = match &answer.asked {
        Ok(said) => said,
        Err((_, failure)) => return vec![fault(&failure.to_string(), &hint(failure))],
    };
    let mut faults = Vec::new();
    match (spec.expected_role, &said.facts.role) {
        (ExpectedRole::Primary, RoleFacts::Standby(_)) => faults.push(fault(
            "it is a standby, and is configured as the primary",
            "Give it as --replica ([[server]] role = \"replica\") and the primary as --primary, or promote it.",
        )),
        (ExpectedRole::Replica, RoleFacts::Primary(_)) => faults.push(fault(
            "it is a primary, and is configured as a replica",
            "Give it as --primary ([[server]] role = \"primary\"), or rebuild it as a standby of the primary.",
        )),
        (ExpectedRole::Any, _)
        | (ExpectedRole::Primary, RoleFacts::Primary(_))
        | (ExpectedRole::Replica, RoleFacts::Standby(_)) => {}
    }
    if !said.sees_all {
        let grant = format!("Run on the primary: GRANT pg_monitor TO \"{}\";", role.replace('"', "\"\""));
        faults.push(fault("the monitoring role is no member of pg_monitor", &grant));
    }
    if let Some(Err(error)) = &said.secrets
        && !said.does_without_secrets
    {
        faults.push(format!("server {} ({}:{}): {error}", spec.name, spec.host, spec.port));
    }
    let Some(primary) = primary else { return faults };
    if let (Some(own), Some(cluster)) = (said.facts.system_identifier, primary.cluster)
        && own != cluster
    {
        let what =
            format!("it belongs to another cluster: its system identifier is {own}, the primary's {cluster}");
        faults.push(fault(
            &what,
            "Write the address of a standby of this primary, or rebuild it from the primary.",
        ));
    } else if let (RoleFacts::Standby(_), Some(own)) = (&said.facts.role, timeline_of(&said.facts.role))
        && let Some(ours) = primary.timeline
        && own != ours
    {
        let what = format!("it receives timeline {own}, and the primary is on {ours}");
        faults.push(fault(
            &what,
            "A failover left it behind: let its primary_conninfo name the primary, or rebuild it (pg_rewind, pg_basebackup).",
        ));
    }
    faults
}

/// What is wrong with the servers together.
fn fault_of_all(answers: &[ServerAnswer]) -> Option<String> {
    let is_primary = |answer: &&ServerAnswer| matches!(&answer.asked, Ok(said) if matches!(said.facts.role, RoleFacts::Primary(_)));
    let primaries: Vec<_> =
        answers.iter().filter(is_primary).map(|answer| answer.spec.name.as_str()).collect();
    match primaries.as_slice() {
        [] if answers.iter().all(|answer| answer.asked.is_ok()) => Some(
            "no server is a primary: sessions that write would have none\n  \
             HINT: Name the primary as well: --primary, or a [[server]] with role = \"primary\"."
                .to_owned(),
        ),
        [_, _, ..] => Some(format!(
            "more than one server is a primary: {}\n  \
             HINT: All but one were left behind by a failover, or never joined: take them out, or rebuild them as standbys.",
            primaries.join(", ")
        )),
        _ => None,
    }
}

fn hint(failure: &ProbeFailure) -> String {
    match failure {
        ProbeFailure::Refused => {
            "Start PostgreSQL there, or see that its listen_addresses and port are these.".to_owned()
        }
        ProbeFailure::Socket { trouble: _, path: _ } => {
            "The proxy's user must be able to use the socket.".to_owned()
        }
        ProbeFailure::TimedOut { phase: ProbePhase::Login, .. } => {
            "See that the host is up, and that no firewall drops the connection.".to_owned()
        }
        ProbeFailure::TimedOut { phase: ProbePhase::Query, .. } => {
            "See what keeps the server busy: it lets the role in and does not answer.".to_owned()
        }
        ProbeFailure::Lost(_) => "See the server's log for why it ends the connection.".to_owned(),
        ProbeFailure::Unresolved(_) => {
            "See that the name is right, for example with `getent hosts`.".to_owned()
        }
        ProbeFailure::Tls(_) => {
            "[server_tls] says what is wanted; `openssl s_client -starttls postgres -connect HOST:PORT` shows what the server has."
                .to_owned()
        }
        ProbeFailure::NoResources(_) => "Raise the limit on open files (ulimit -n).".to_owned(),
        ProbeFailure::Refusal { code, .. } if code.as_str() == "57P03" => {
            "The server starts or stops: ask again in a moment.".to_owned()
        }
        ProbeFailure::Refusal { code, .. } => sentence(mend_login(code.as_str())),
        ProbeFailure::Malformed(_) => "See that PostgreSQL listens there, and nothing else.".to_owned(),
    }
}

/// A phrase as a sentence.
fn sentence(phrase: &str) -> String {
    let mut chars = phrase.chars();
    let first = chars.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(chars).chain(['.']).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use trunkline_auth::secrets::LookupError;
    use trunkline_health::judge::{Facts, PrimaryFacts, StandbyFacts, StartupWait};
    use trunkline_topology::AdminState;

    use super::*;

    fn spec(name: &str, expected_role: ExpectedRole) -> ServerSpec {
        let (name, host) = (name.to_owned(), format!("{name}.example"));
        ServerSpec {
            name,
            host,
            port: 5432,
            expected_role,
            weight: 100,
            admin: AdminState::Ready,
            ..ServerSpec::default()
        }
    }

    fn primary(name: &str, expected: ExpectedRole) -> ServerAnswer {
        let role = RoleFacts::Primary(PrimaryFacts {
            flush: Some(Lsn(5 << 20)),
            insert: None,
            timeline: Some(TimelineId(3)),
        });
        answer(name, expected, role)
    }

    fn standby(name: &str, expected: ExpectedRole, replay: u64) -> ServerAnswer {
        let receiver = Receiver::Present { timeline: Some(TimelineId(3)), latest_end: None };
        let role = RoleFacts::Standby(StandbyFacts {
            replay: Some(Lsn(replay)),
            receive: None,
            last_commit_us: None,
            is_paused: Some(false),
            startup: StartupWait::Stream,
            receiver,
            apply_delay: Some(Duration::ZERO),
            told_lag: None,
            estimated_lag: None,
        });
        answer(name, expected, role)
    }

    fn answer(name: &str, expected: ExpectedRole, role: RoleFacts) -> ServerAnswer {
        let system_identifier = Some(SystemIdentifier(7));
        let facts = Facts {
            role,
            clock_us: 0,
            system_identifier,
            started_us: None,
            version: Some(150_018),
            membership: None,
            refused: Vec::new(),
        };
        let said =
            ServerFacts { facts, sees_all: true, secrets: None, does_without_secrets: false, room: None };
        ServerAnswer { spec: spec(name, expected), asked: Ok(said) }
    }

    #[test]
    fn servers_as_configured_have_no_fault() {
        let answers =
            [primary("db1", ExpectedRole::Primary), standby("db2", ExpectedRole::Replica, (5 << 20) - 2048)];
        let (table, faults) = report(&answers, "monitor");
        assert!(faults.is_empty(), "{faults:?}");
        assert!(table.contains("primary         3  15.18         -"), "{table}");
        assert!(table.contains("standby         3  15.18     2 KiB"), "{table}");
    }

    #[test]
    fn swapped_roles_are_two_faults() {
        let answers = [standby("db1", ExpectedRole::Primary, 0), primary("db2", ExpectedRole::Replica)];
        let (_, faults) = report(&answers, "monitor");
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults[0].starts_with(
            "server db1 (db1.example:5432): it is a standby, and is configured as the primary\n  HINT: "
        ));
        assert!(faults[1].contains("db2") && faults[1].contains("it is a primary"), "{faults:?}");
    }

    #[test]
    fn each_missing_right_has_the_statement_that_grants_it() {
        let mut server = primary("db1", ExpectedRole::Any);
        let said = server.asked.as_mut().expect("it answers");
        said.sees_all = false;
        said.secrets = Some(Err(LookupError::Query {
            code: "42501".to_owned(),
            message: "permission denied".to_owned(),
        }));
        let (table, faults) = report(&[server], "mon\"itor");
        assert!(faults[0].contains("GRANT pg_monitor TO \"mon\"\"itor\";"), "{faults:?}");
        assert!(
            faults[1].contains("(SQLSTATE 42501)") && faults[1].contains("trunkline init-sql"),
            "{faults:?}"
        );
        assert!(table.contains("yes      yes    no          no"), "{table}");
    }

    #[test]
    fn no_primary_two_primaries_and_a_foreign_server_are_faults() {
        let said = |answers: &[ServerAnswer]| report(answers, "monitor").1.join("\n");
        assert!(said(&[standby("db1", ExpectedRole::Any, 0)]).contains("no server is a primary"));
        let mut twin = primary("db2", ExpectedRole::Any);
        twin.asked.as_mut().expect("it answers").facts.system_identifier = Some(SystemIdentifier(8));
        let faults = said(&[primary("db1", ExpectedRole::Any), twin]);
        assert!(faults.contains("more than one server is a primary: db1, db2"), "{faults}");
        assert!(faults.contains("its system identifier is 8, the primary's 7"), "{faults}");
    }

    #[test]
    fn a_standby_that_a_failover_left_behind_is_a_fault() {
        let mut behind = standby("db2", ExpectedRole::Replica, 0);
        let said = behind.asked.as_mut().expect("it answers");
        let RoleFacts::Standby(facts) = &mut said.facts.role else { panic!("a standby") };
        facts.receiver = Receiver::Present { timeline: Some(TimelineId(2)), latest_end: None };
        let (_, faults) = report(&[primary("db1", ExpectedRole::Primary), behind], "monitor");
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].contains("it receives timeline 2, and the primary is on 3"), "{faults:?}");
    }

    #[test]
    fn a_server_that_is_not_reached_is_told_from_one_that_refuses() {
        let refused = |failure| ServerAnswer {
            spec: spec("db1", ExpectedRole::Any),
            asked: Err((ProbePhase::Login, failure)),
        };
        let code = trunkline_codec::sqlstate::SqlState::INVALID_PASSWORD;
        let (table, faults) = report(&[refused(ProbeFailure::Refused)], "monitor");
        assert!(table.contains("no       -") && faults[0].contains("listen_addresses"), "{table}{faults:?}");
        let refusal = ProbeFailure::Refusal { code, message: "no".to_owned() };
        let (table, faults) = report(&[refused(refusal)], "monitor");
        assert!(table.contains("yes      no"), "{table}");
        assert!(faults[0].contains("no (28P01)\n  HINT: Set [monitor] user and"), "{faults:?}");
    }
}
