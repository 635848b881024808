//! An HAProxy configuration as a source.
//!
//! [`sections`] reads the file, [`part`] makes of each `listen`, or `frontend` with its `backend`, what matters here, and this
//! module makes listeners and servers of those. Source: HAProxy 2.6, doc/configuration.txt.

mod part;
mod sections;

use std::path::Path;

use trunkline_routing::{Balance, TargetSessionAttrs};

use self::part::{HaBind, HaMode, HaPurpose, HaServer, Part};
use self::sections::{HaSection, SectionKind};
use super::draft::{Draft, DraftListener, DraftServer, DraftStanding};
use super::read_source;
use crate::Failure;

/// PostgreSQL's port, for a server without one.
const DEFAULT_PORT: u16 = 5432;

pub(super) fn draft(path: &Path) -> Result<Draft, Failure> {
    let text = read_source(path)?;
    Ok(of_text(&path.display().to_string(), &text))
}

fn of_text(source: &str, text: &str) -> Draft {
    let mut draft = Draft::of(source);
    let sections = sections::read(text);
    globals(&sections, &mut draft);
    let parts = Part::all(&sections);
    for part in &parts {
        match (part.mode, part.binds.is_empty() || part.servers.is_empty()) {
            (HaMode::Http, _) => {
                draft.unequal.push(format!("{}: mode http, which is not PostgreSQL: left out", part.shown()))
            }
            (HaMode::Tcp, true) if part.servers.is_empty() => {
                draft.unequal.push(format!("{}: no server: left out", part.shown()));
            }
            (HaMode::Tcp, _) => put_part(part, &mut draft),
        }
    }
    give_weights(&parts, &mut draft);
    if parts.iter().any(|part| part.purpose == HaPurpose::Unknown && part.mode == HaMode::Tcp) {
        draft.unseen.push(
            "which sections are for writes: neither their checks nor their names say it. Set target_session_attrs of those \
             listeners that have \"any\""
                .to_owned(),
        );
    }
    draft.unseen.push(
        "roles and versions: no server was asked. Each role is measured when Trunkline runs".to_owned(),
    );
    draft.to_do.push("stop HAProxy, or give the listeners other ports: the addresses are its own".to_owned());
    draft
}

/// `global`: what has an equal.
fn globals(sections: &[HaSection], draft: &mut Draft) {
    let lines = sections
        .iter()
        .filter(|section| section.kind == SectionKind::Global)
        .flat_map(|section| &section.lines);
    for line in lines {
        if line.first() == "maxconn"
            && let Some(Ok(connections)) = line.words.get(1).map(|word| word.parse::<u32>())
            && connections > 0
        {
            draft.key(
                "limits",
                "connections_max",
                i64::from(connections),
                format!("HAProxy's global maxconn ({}).", line.place()),
            );
        }
    }
}

fn put_part(part: &Part, draft: &mut Draft) {
    for server in &part.servers {
        put_server(part, server, draft);
    }
    let attrs = attrs(part);
    for bind in &part.binds {
        put_listener(part, bind, attrs, draft);
    }
    if let Some((timeout, place)) = &part.connect_timeout {
        draft.key("timeouts", "connect", timeout.clone(), format!("HAProxy's timeout connect ({place})."));
    }
    if let Some((slow_start, place)) = &part.slow_start {
        draft.key("health", "slow_start", slow_start.clone(), format!("HAProxy's slowstart ({place})."));
    }
    if let Some((user, place)) = &part.check_user {
        let note = format!(
            "HAProxy's option pgsql-check user ({place}): answered by Trunkline itself, while an HAProxy is in front of it."
        );
        draft.key("auth", "check_user", user.clone(), note);
    }
    if let Some(path) = part.check_path.as_deref().filter(|_| part.purpose != HaPurpose::Unknown) {
        draft.found.push(format!(
            "{}: its checks ask for {path} by HTTP. Nothing here needs them: servers are probed by SQL",
            part.shown()
        ));
        if matches!(path, "/master" | "/primary" | "/replica" | "/leader") {
            draft.found.push(
                "that looks like Patroni: `trunkline init --from patroni:http://HOST:8008` finds its members"
                    .to_owned(),
            );
        }
    }
    draft.unequal.extend(part.unequal.iter().cloned());
    draft.unseen.extend(part.unseen.iter().cloned());
}

fn put_server(part: &Part, server: &HaServer, draft: &mut Draft) {
    let note = format!("HAProxy's server {} of {} ({}).", server.name, part.shown(), server.place);
    let taken = draft.servers.iter().any(|known| known.name.as_deref() == Some(&server.name));
    draft.server(DraftServer {
        name: (!taken).then(|| server.name.clone()),
        host: server.host.clone(),
        port: Some(server.port.unwrap_or(DEFAULT_PORT)),
        weight: None,
        standing: if server.is_disabled() { DraftStanding::Disabled } else { DraftStanding::InService },
        note,
    });
}

/// Which servers the sessions of a section may have, as HAProxy gave them.
fn attrs(part: &Part) -> (TargetSessionAttrs, &'static str) {
    let has_backup = part.servers.iter().any(HaServer::is_backup);
    match part.purpose {
        HaPurpose::Writes => (TargetSessionAttrs::ReadWrite, "the primary, wherever it is"),
        HaPurpose::Reads if has_backup => (
            TargetSessionAttrs::PreferStandby,
            "replicas, and the primary when there is none, as by `backup`",
        ),
        HaPurpose::Reads => (
            TargetSessionAttrs::Standby,
            "replicas alone, as before; \"prefer-standby\" goes to the primary when no replica can serve",
        ),
        HaPurpose::AnyServer => (TargetSessionAttrs::Any, "any server, as the checks of HAProxy had it"),
        HaPurpose::Unknown => (TargetSessionAttrs::Any, "any server: HAProxy did not tell their roles apart"),
    }
}

fn put_listener(part: &Part, bind: &HaBind, (attrs, why): (TargetSessionAttrs, &str), draft: &mut Draft) {
    let balance = match part.balance.as_ref().map(|(word, _)| word.as_str()) {
        Some("leastconn") => Balance::LeastOutstanding,
        Some(word) if word.starts_with("random") => Balance::RandomTwo,
        _ => Balance::default(),
    };
    draft.listener(DraftListener {
        name: part.name.clone(),
        address: bind.address.clone(),
        attrs,
        balance,
        keys: Vec::new(),
        note: format!("HAProxy's {} ({}): {why}.", part.shown(), bind.place),
    });
}

/// Weights, where HAProxy had different ones: its default is 1, ours is 100.
fn give_weights(parts: &[Part], draft: &mut Draft) {
    let all = || parts.iter().filter(|part| part.mode == HaMode::Tcp).flat_map(|part| &part.servers);
    let mut weights: Vec<u16> = all().map(|server| server.weight).collect();
    weights.dedup();
    if weights.len() < 2 {
        return;
    }
    for server in &mut draft.servers {
        let of =
            |ha: &&HaServer| ha.host == server.host && Some(ha.port.unwrap_or(DEFAULT_PORT)) == server.port;
        server.weight = all().find(of).map(|ha| ha.weight);
    }
}

#[cfg(test)]
mod tests;
