//! What the servers said, as a draft.

use trunkline_tls::connect::{ConnectSettings, ServerSslMode};

use super::ClusterAccess;
use super::look::{LookedRole, ServerLook, ServerSsl, StandbyRow};
use super::walk::{LivePlace, Walked};
use crate::commands::init::draft::{Draft, DraftServer, Granted, RoleFound};
use crate::config::words::Word as _;

/// Oldest version that can be probed. Source: crates/health/src/probe/sql.rs.
const VERSION_MIN: u32 = 120_000;

/// A server that was seen, and whatever sends to it says of it.
struct SeenServer<'w> {
    place: &'w LivePlace,
    look: &'w ServerLook,
    row: Option<&'w StandbyRow>,
}

/// Makes the draft.
pub(super) fn draft(access: &ClusterAccess, walked: &Walked) -> Draft {
    let mut draft = Draft::of(format!("the cluster of {}, as {}", access.shown(), access.user));
    let cluster = cluster_of(access, walked);
    let (ours, others): (Vec<_>, Vec<_>) =
        walked.seen.iter().partition(|(_, look)| look.system_identifier == cluster.system_identifier);
    for (place, _) in others {
        draft
            .unseen
            .push(format!("{place}: it has another system identifier, so it is another cluster's: left out"));
    }
    let rows: Vec<(&ServerLook, &StandbyRow)> =
        ours.iter().flat_map(|(_, look)| look.standbys().iter().map(move |row| (look, row))).collect();
    let mut left: Vec<(&ServerLook, &StandbyRow)> = rows;
    let seen: Vec<SeenServer<'_>> = ours
        .iter()
        .map(|(place, look)| {
            let row = take_row(&mut left, place, look);
            SeenServer { place, look, row }
        })
        .collect();
    put_servers(&mut draft, &seen);
    put_unseen(&mut draft, &left, walked);
    let primaries: Vec<&SeenServer<'_>> = seen.iter().filter(|seen| seen.look.is_primary()).collect();
    if let [primary] = primaries.as_slice() {
        draft.primary = Some((primary.place.host.clone(), primary.place.port));
    }
    say_primaries(&mut draft, &primaries, access);
    put_role(&mut draft, cluster);
    put_tls(&mut draft, &seen, &access.tls);
    put_connections(&mut draft, &seen);
    if access.dbname != "postgres" {
        draft.dbname = Some(access.dbname.clone());
    }
    draft.usual_listeners();
    draft
}

/// The server whose cluster it is: the primary, or else the first that was named and seen.
fn cluster_of<'w>(access: &ClusterAccess, walked: &'w Walked) -> &'w ServerLook {
    let named = |(place, _): &&(LivePlace, ServerLook)| access.places.contains(place);
    let first = walked.seen.iter().find(named).or(walked.seen.first());
    let of_first = &first.expect("a walk without an answer is an error").1;
    let is_its_primary = |(_, look): &&(LivePlace, ServerLook)| {
        look.is_primary() && look.system_identifier == of_first.system_identifier
    };
    walked.seen.iter().find(is_its_primary).map_or(of_first, |(_, look)| look)
}

/// The row of its sender that is about this server: by its slot, the name that it gives itself, or its address.
fn take_row<'w>(
    left: &mut Vec<(&'w ServerLook, &'w StandbyRow)>,
    place: &LivePlace,
    look: &ServerLook,
) -> Option<&'w StandbyRow> {
    let LookedRole::Standby { slot, .. } = &look.role else { return None };
    let by_slot = |row: &StandbyRow| slot.is_some() && row.slot == *slot;
    let by_name =
        |row: &StandbyRow| !look.cluster_name.is_empty() && row.application_name == look.cluster_name;
    let by_address = |row: &StandbyRow| row.address.as_deref() == Some(place.host.as_str());
    let rules: [&dyn Fn(&StandbyRow) -> bool; 3] = [&by_slot, &by_name, &by_address];
    let at = rules.iter().find_map(|rule| left.iter().position(|(_, row)| rule(row)))?;
    Some(left.remove(at).1)
}

fn put_servers(draft: &mut Draft, seen: &[SeenServer<'_>]) {
    for server in seen {
        let SeenServer { place, look, row } = server;
        let name = Some(look.cluster_name.clone()).filter(|name| {
            let is_alone = seen.iter().filter(|other| other.look.cluster_name == *name).count() == 1;
            is_alone && !name.is_empty()
        });
        let role = match &look.role {
            LookedRole::Primary { .. } => "primary".to_owned(),
            LookedRole::Standby { sender: Some(sender), .. } => format!("standby, receives from {sender}"),
            LookedRole::Standby { sender: None, .. } => "standby".to_owned(),
        };
        let sync = row.map(|row| format!(", {}, {}", row.state, row.sync_state)).unwrap_or_default();
        let note = format!(
            "PostgreSQL {}, {role}{sync}, when it was looked at; max_connections {}, ssl {}.",
            look.version_text,
            look.max_connections,
            match look.ssl {
                ServerSsl::On => "on",
                ServerSsl::Off => "off",
            }
        );
        if look.version < VERSION_MIN {
            draft.unseen.push(format!(
                "{place}: PostgreSQL {} cannot be probed; 12 is the oldest that can",
                look.version_text
            ));
        }
        if let Some(own) = look.port.filter(|own| *own != place.port) {
            draft.found.push(format!("{place} listens on port {own} itself: something forwards to it"));
        }
        draft.server(DraftServer {
            name,
            host: place.host.clone(),
            port: Some(place.port),
            note,
            ..DraftServer::default()
        });
    }
    draft.found.push(
        "addresses are as they lead there from this machine: look whether the proxy's machine has the same"
            .to_owned(),
    );
}

/// Standbys that stream and that were not seen, and places that gave no answer.
fn put_unseen(draft: &mut Draft, left: &[(&ServerLook, &StandbyRow)], walked: &Walked) {
    for (sender, row) in left {
        let StandbyRow { application_name, address, state, sync_state, .. } = row;
        let Some(address) = address else {
            draft.unseen.push(format!(
                "the standby {application_name:?} ({state}, {sync_state}): its address is not shown, because it is on the same \
                 machine, or the role that looked lacks pg_monitor. Write its [[server]]"
            ));
            continue;
        };
        let port = sender.port.unwrap_or(super::DEFAULT_PORT);
        let tried = walked.unanswered.iter().find(|(place, _)| place.host == *address && place.port == port);
        let why = match tried {
            Some((_, error)) => {
                format!("{address}:{port}, with the port of its sender, gave no answer: {error}")
            }
            None => format!("at {address}:{port}, with the port of its sender, is another server"),
        };
        draft.unseen.push(format!(
            "the standby {application_name:?} at {address} ({state}, {sync_state}): a sender does not see its port. {why}. Write \
             it into its [[server]] below, or name it: --from \"host=...,{address} port=...,PORT\". pg_receivewal looks the same"
        ));
        draft.guesses.push(DraftServer {
            host: address.clone(),
            port: None,
            note: format!("The standby {application_name}: its port could not be seen."),
            ..DraftServer::default()
        });
    }
    let is_of_row =
        |place: &LivePlace| left.iter().any(|(_, row)| row.address.as_deref() == Some(place.host.as_str()));
    for (place, error) in walked.unanswered.iter().filter(|(place, _)| !is_of_row(place)) {
        draft.unseen.push(format!("{place}: {error}"));
    }
}

fn say_primaries(draft: &mut Draft, primaries: &[&SeenServer<'_>], access: &ClusterAccess) {
    match primaries {
        [] => draft.unseen.push(
            "the primary: no server that answered is one, and pg_stat_wal_receiver of the standbys does not lead there (the role \
             that looks needs pg_monitor). Its standbys are listed by it alone"
                .to_owned(),
        ),
        [primary] => {
            draft.found.push(format!("the primary is {}, with {} standbys", primary.place, primary.look.standbys().len()));
            if !primary.look.sees_all {
                draft.unseen.push(format!(
                    "addresses of standbys: {} lacks pg_monitor, which shows them in pg_stat_replication",
                    access.user
                ));
            }
        }
        many => {
            let places: Vec<_> = many.iter().map(|seen| seen.place.to_string()).collect();
            draft.unseen.push(format!(
                "which of {} is the primary: more than one server says that it is. Trunkline follows the newest timeline and fences \
                 the others; look at it before anything writes",
                places.join(", ")
            ));
        }
    }
}

fn put_role(draft: &mut Draft, cluster: &ServerLook) {
    draft.role = cluster.monitor.clone();
    match &cluster.monitor {
        RoleFound::There { name: Some(name), .. } => {
            draft.found.push(format!(
                "{name} may be the monitoring role: it sees all statistics and is no superuser"
            ));
        }
        RoleFound::There { secrets: Granted::Yes, .. } => {
            draft.found.push("the monitoring role is there, and may read stored secrets".to_owned());
        }
        RoleFound::There { secrets: Granted::No, .. } => {
            draft.found.push("the monitoring role is there, and may not read stored secrets".to_owned());
        }
        RoleFound::Missing => draft.found.push("the monitoring role is not there yet".to_owned()),
        RoleFound::NotAsked => {}
    }
}

/// TLS as the connection string had it; and what the servers have.
fn put_tls(draft: &mut Draft, seen: &[SeenServer<'_>], tls: &ConnectSettings) {
    let with = seen.iter().filter(|seen| seen.look.ssl == ServerSsl::On).count();
    draft.found.push(format!("{with} of {} servers have TLS (ssl = on)", seen.len()));
    let note = "As in the connection string.";
    if tls.sslmode != ConnectSettings::default().sslmode {
        draft.key("server_tls", "sslmode", tls.sslmode.word(), note);
    }
    let files = [
        ("sslrootcert", &tls.sslrootcert),
        ("sslcrl", &tls.sslcrl),
        ("sslcert", &tls.sslcert),
        ("sslkey", &tls.sslkey),
    ];
    for (name, value) in files {
        if let Some(value) = value {
            draft.key("server_tls", name, value.clone(), note);
        }
    }
    if tls.sslnegotiation != ConnectSettings::default().sslnegotiation {
        draft.key("server_tls", "sslnegotiation", tls.sslnegotiation.word(), note);
    }
    if with > 0 && !matches!(tls.sslmode, ServerSslMode::VerifyFull | ServerSslMode::VerifyCa) {
        draft.to_do.push(
            "[server_tls] sslmode = \"verify-full\" and sslrootcert: the servers have TLS, and only that says that they are who they \
             are (the default, prefer, encrypts and checks nothing)"
                .to_owned(),
        );
    }
}

fn put_connections(draft: &mut Draft, seen: &[SeenServer<'_>]) {
    let sum: u32 = seen.iter().map(|seen| seen.look.max_connections).fold(0, u32::saturating_add);
    draft.found.push(format!(
        "max_connections of all servers together is {sum}: a session has a server connection of its own, so that more sessions \
         than that wait for one ([limits] connections_max bounds them)"
    ));
}
