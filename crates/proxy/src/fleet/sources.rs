//! What sources say, besides who is there: of roles, and of themselves.

use std::collections::HashMap;
use std::time::UNIX_EPOCH;

use trunkline_discovery::found::AnswerFrom;
use trunkline_discovery::{Found, Member, RoleHint, SourceStatus};
use trunkline_telemetry::metrics::{SourceMember, SourceRow};
use trunkline_topology::{ServerId, Snapshot};

/// What sources said last of the role at each place.
#[derive(Debug, Default)]
pub(super) struct RolesSaid(HashMap<(String, u16), RoleHint>);

impl RolesSaid {
    /// The servers of which another role is said now. One that is new is probed anyway.
    pub(super) fn changed(&mut self, found: &Found, snapshot: &Snapshot) -> Vec<ServerId> {
        let members = found.sources.iter().flat_map(SourceStatus::members);
        let now: HashMap<_, _> =
            members.map(|member| ((member.host.clone(), member.port), member.role)).collect();
        let before = std::mem::replace(&mut self.0, now);
        let has_changed = |place: &(String, u16)| match (before.get(place), self.0.get(place)) {
            (Some(before), Some(now)) => before != now,
            (None, _) | (_, None) => false,
        };
        let servers = snapshot.servers.iter();
        servers
            .filter(|server| has_changed(&(server.host.to_string(), server.port)))
            .map(|server| server.id)
            .collect()
    }
}

/// What is shown of a source.
pub(super) fn row(source: &SourceStatus) -> SourceRow {
    let answered = source.answer.as_ref();
    let seconds = answered.and_then(|answer| answer.at.duration_since(UNIX_EPOCH).ok());
    let member = |member: &Member| SourceMember {
        name: member.name.clone(),
        place: format!("{}:{}", member.host, member.port),
        role: member.role.as_str(),
        tags: member.tags.iter().map(ToString::to_string).collect(),
    };
    SourceRow {
        name: source.name.to_string(),
        kind: source.kind,
        members: source.members().iter().map(member).collect(),
        answered_at: seconds.map(|since| since.as_secs()),
        is_from_disk: answered.is_some_and(|answer| answer.from == AnswerFrom::Disk),
        errors: source.errors,
        error: source.last_error.as_ref().filter(|_| source.is_failing()).map(|last| last.text.to_string()),
        keep_problem: source.keep_problem.as_ref().map(ToString::to_string),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use trunkline_discovery::found::GoodAnswer;
    use trunkline_telemetry::exposition::testing::snapshot;

    use super::*;

    /// A source that says this of the roles of the servers of the snapshot, by their place.
    fn found(roles: &[(u16, RoleHint)]) -> Found {
        let member = |(port, role): &(u16, RoleHint)| Member {
            host: "127.0.0.1".to_owned(),
            port: *port,
            role: *role,
            ..Member::default()
        };
        let members: Arc<[Member]> = roles.iter().map(member).collect();
        let answer = Some(GoodAnswer { members, at: SystemTime::UNIX_EPOCH, from: AnswerFrom::Source });
        let source = SourceStatus {
            name: "patroni".into(),
            kind: "patroni",
            weight: 100,
            answer,
            role_changes: 0,
            last_error: None,
            errors: 0,
            errors_since: 0,
            keep_problem: None,
        };
        Found { sources: vec![source] }
    }

    #[test]
    fn a_server_of_which_another_role_is_said_is_to_be_asked() {
        let mut snapshot = snapshot();
        for (port, server) in (1..).zip(&mut snapshot.servers) {
            server.port = port;
        }
        let mut said = RolesSaid::default();
        let first = found(&[(1, RoleHint::Primary), (2, RoleHint::Replica)]);
        assert_eq!(said.changed(&first, &snapshot), [], "nothing was said before");
        assert_eq!(said.changed(&first, &snapshot), []);
        let second = found(&[(1, RoleHint::Replica), (2, RoleHint::Primary), (3, RoleHint::Replica)]);
        assert_eq!(said.changed(&second, &snapshot), [snapshot.servers[0].id, snapshot.servers[1].id]);
    }

    #[test]
    fn a_row_has_an_error_only_while_there_is_no_answer_since() {
        let mut source = found(&[(1, RoleHint::Primary)]).sources.remove(0);
        source.last_error = Some(trunkline_discovery::found::LastError {
            text: "it was slow".into(),
            at: SystemTime::UNIX_EPOCH,
        });
        source.errors = 7;
        assert_eq!((row(&source).error, row(&source).errors), (None, 7));
        source.errors_since = 1;
        assert_eq!(row(&source).error.as_deref(), Some("it was slow"));
    }
}
