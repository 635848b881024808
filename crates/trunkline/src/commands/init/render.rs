//! A draft as a commented file.

use std::fmt::Write as _;

use trunkline_topology::AdminState;

use super::draft::{
    Draft, DraftDiscovery, DraftKey, DraftListener, DraftServer, DraftStanding, Granted, RoleFound,
};
use crate::commands::init_sql::{SecretAccess, identifier, recipe};
use crate::config::words::Word as _;

/// Columns that a comment may take.
const WIDTH: usize = 110;

/// The whole file. `role` is the monitoring role that was asked for.
pub(super) fn render(draft: &Draft, role: &str) -> String {
    let role = match &draft.role {
        RoleFound::There { name: Some(name), .. } => name.as_str(),
        _ => role,
    };
    let mut out = String::new();
    comment(
        &mut out,
        "",
        &format!("Trunkline's configuration, made by `trunkline init` from {}.", draft.source),
    );
    comment(
        &mut out,
        "",
        "docs/configuration.md has every key; `trunkline config default` prints them with their defaults.",
    );
    list(&mut out, "Found:", &draft.found);
    list(&mut out, "Could not be seen:", &draft.unseen);
    list(&mut out, "Has no equal here:", &draft.unequal);
    list(&mut out, "Next:", &next(draft, role));
    if let Some(discovery) = &draft.discovery {
        put_discovery(&mut out, discovery);
    }
    for server in &draft.servers {
        out.push('\n');
        put_server(&mut out, "", server);
    }
    for server in &draft.guesses {
        out.push('\n');
        put_server(&mut out, "# ", server);
    }
    for listener in &draft.listeners {
        out.push('\n');
        put_listener(&mut out, listener);
    }
    put_sections(&mut out, draft, role);
    put_sql(&mut out, draft, role);
    out
}

/// Text that stays on one line wherever it comes from.
pub(super) fn on_one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') { ' ' } else { c })
        .collect()
}

/// A comment of whole words within [`WIDTH`]; `bullet` begins its first line, and the others stand below its end.
fn comment(out: &mut String, bullet: &str, text: &str) {
    let text = on_one_line(text);
    let mut line = format!("# {bullet}");
    let indent = " ".repeat(bullet.chars().count());
    let mut is_begun = false;
    for word in text.split_whitespace() {
        if is_begun && line.chars().count() + 1 + word.chars().count() > WIDTH {
            out.push_str(line.trim_end());
            out.push('\n');
            line = format!("# {indent}");
            is_begun = false;
        }
        if is_begun {
            line.push(' ');
        }
        line.push_str(word);
        is_begun = true;
    }
    out.push_str(line.trim_end());
    out.push('\n');
}

fn list(out: &mut String, title: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    out.push_str("#\n");
    comment(out, "", title);
    lines.iter().for_each(|line| comment(out, "- ", line));
}

/// What the operator does next.
fn next(draft: &Draft, role: &str) -> Vec<String> {
    let mut steps = draft.to_do.clone();
    let make = "make the monitoring role: the SQL at the end of this file, once, on the primary";
    match &draft.role {
        RoleFound::NotAsked => steps.push(format!("{make}, unless it is there")),
        RoleFound::Missing => steps.push(make.to_owned()),
        RoleFound::There { monitors: Granted::No, .. } => steps.push(format!(
            "the role {} is there and lacks pg_monitor: the SQL at the end of this file grants it",
            identifier(role)
        )),
        RoleFound::There { .. } => {}
    }
    steps.push(
        "set TRUNKLINE__MONITOR__PASSWORD in the environment of the proxy, and of the commands that follow"
            .to_owned(),
    );
    steps.push("trunkline check --connect --config FILE: what is wrong, with what mends it".to_owned());
    steps.push("trunkline serve --config FILE".to_owned());
    steps
}

/// A value as TOML writes it.
fn text(value: &str) -> String {
    toml::Value::from(value).to_string()
}

/// Writes a line with `prefix` in front, which is `# ` for what is a comment.
fn put(out: &mut String, prefix: &str, line: &str) {
    let _infallible = writeln!(out, "{prefix}{line}");
}

fn put_server(out: &mut String, prefix: &str, server: &DraftServer) {
    if !server.note.is_empty() {
        comment(out, "", &server.note);
    }
    let host = if server.host.contains(':') && !server.host.starts_with('/') {
        format!("[{}]", server.host)
    } else {
        server.host.clone()
    };
    let port = server.port.map_or_else(|| "PORT".to_owned(), |port| port.to_string());
    put(out, prefix, "[[server]]");
    if let Some(name) = &server.name {
        put(out, prefix, &format!("name = {}", text(&on_one_line(name))));
    }
    put(out, prefix, &format!("address = {}", text(&on_one_line(&format!("{host}:{port}")))));
    if let Some(weight) = server.weight {
        put(out, prefix, &format!("weight = {weight}"));
    }
    match server.standing {
        DraftStanding::InService => {}
        DraftStanding::Disabled => put(out, prefix, &format!("state = {}", text(AdminState::Maint.word()))),
    }
}

/// The source, where its answers may be kept, and the members as they would be without it.
fn put_discovery(out: &mut String, discovery: &DraftDiscovery) {
    out.push('\n');
    comment(
        out,
        "",
        "With a directory of the proxy's own, the last good answer is kept: a restart has servers while the source is down.",
    );
    out.push_str("# [discovery]\n# state_dir = \"/var/lib/trunkline\"\n\n");
    comment(out, "", &discovery.note);
    put(out, "", "[[discovery.source]]");
    for (name, value) in &discovery.keys {
        put(out, "", &format!("{name} = {value}"));
    }
    if discovery.members.is_empty() {
        return;
    }
    out.push('\n');
    comment(out, "", "What it names now. In its place, these would be servers that nobody changes:");
    for member in &discovery.members {
        out.push_str("#\n");
        put_server(out, "# ", member);
    }
}

fn put_listener(out: &mut String, listener: &DraftListener) {
    comment(out, "", &listener.note);
    put(out, "", "[[listener]]");
    put(out, "", &format!("name = {}", text(&listener.name)));
    put(out, "", &format!("address = {}", text(&listener.address)));
    put(out, "", &format!("target_session_attrs = {}", text(listener.attrs.word())));
    if listener.balance != trunkline_routing::Balance::default() {
        put(out, "", &format!("balance = {}", text(listener.balance.word())));
    }
    for (name, value) in &listener.keys {
        put(out, "", &format!("{name} = {value}"));
    }
}

/// The sections in the order of their first key, `[monitor]` and `[auth]` first.
fn put_sections(out: &mut String, draft: &Draft, role: &str) {
    out.push_str("\n# How the health probes log in. Its password comes from TRUNKLINE__MONITOR__PASSWORD.\n[monitor]\n");
    put(out, "", &format!("user = {}", text(role)));
    if let Some(dbname) = &draft.dbname {
        put(out, "", &format!("dbname = {}", text(dbname)));
    }
    out.push('\n');
    comment(out, "", &auth_note(draft, role));
    out.push_str("[auth]\n");
    if !draft.keys.iter().any(|key| (key.section, key.name) == ("auth", "mode")) {
        out.push_str("mode = \"auto\"\n");
    }
    let of = |section: &'static str| draft.keys.iter().filter(move |key| key.section == section);
    of("auth").for_each(|key| put_key(out, key));
    let mut written = vec!["auth"];
    for key in &draft.keys {
        if written.contains(&key.section) {
            continue;
        }
        written.push(key.section);
        let _infallible = writeln!(out, "\n[{}]", key.section);
        of(key.section).for_each(|key| put_key(out, key));
    }
}

fn put_key(out: &mut String, key: &DraftKey) {
    comment(out, "", &key.note);
    put(out, "", &format!("{} = {}", key.name, key.value));
}

/// How stored secrets are read: from the servers, unless the source has a file of them.
fn secrets_of(draft: &Draft) -> SecretAccess {
    let has_file = draft.keys.iter().any(|key| (key.section, key.name) == ("auth", "users_file"));
    if has_file { SecretAccess::None } else { SecretAccess::Function }
}

fn auth_note(draft: &Draft, role: &str) -> String {
    let role = identifier(role);
    let said = match &draft.role {
        _ if secrets_of(draft) == SecretAccess::None => {
            "auto is verify: stored secrets are in users_file, and sessions can move to any server that has the same ones."
                .to_owned()
        }
        RoleFound::There { secrets: Granted::Yes, .. } => {
            format!("{role} may read stored secrets, so that auto is verify: sessions can move to any server.")
        }
        RoleFound::There { secrets: Granted::No, .. } => format!(
            "{role} may not read stored secrets: auto is login or relay, until it has run the SQL at the end of this file."
        ),
        RoleFound::Missing | RoleFound::NotAsked => {
            "auto is verify once the SQL at the end of this file has run, and sessions can then move to any server."
                .to_owned()
        }
    };
    format!("Who authenticates clients. {said}")
}

/// The SQL of the monitoring role, as a comment, and the command that runs it.
fn put_sql(out: &mut String, draft: &Draft, role: &str) {
    let (host, port) = draft.primary.clone().unwrap_or_else(|| ("PRIMARY".to_owned(), 5432));
    let verify = if secrets_of(draft) == SecretAccess::None { " --verify none" } else { "" };
    let user = if role == crate::commands::init_sql::DEFAULT_ROLE {
        String::new()
    } else {
        format!(" --user '{}'", role.replace('\'', "'\\''"))
    };
    let dbname = draft.dbname.as_deref().unwrap_or("postgres");
    out.push_str("\n# The monitoring role, for psql. The same without this file:\n");
    let shell = |word: &str| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:".contains(c);
        if word.chars().all(is_plain) {
            word.to_owned()
        } else {
            format!("'{}'", word.replace('\'', "'\\''"))
        }
    };
    let command = format!(
        "trunkline init-sql{verify}{user} | psql -X -h {} -p {port} -U postgres -d {}",
        shell(&host),
        shell(dbname)
    );
    put(out, "#   ", &on_one_line(&command));
    out.push_str("#\n");
    for line in recipe(secrets_of(draft), role).lines() {
        put(out, "", format!("#     {line}").trim_end());
    }
}
