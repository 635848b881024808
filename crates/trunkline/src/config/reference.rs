//! `docs/configuration.md`, from the key table.

use std::fmt::Write as _;

use super::keys::{Key, LISTENER_KEYS, OVERRIDE_KEYS, SECTIONS, SERVER_KEYS, SOURCE_KEYS};

const HEADER: &str = "\
# Configuration

<!-- Made from the key table, crates/trunkline/src/config/keys/table.rs:
     TRUNKLINE_UPDATE_DOCS=1 cargo test -p trunkline --test reference -->

Sources, each over the one before: defaults, the file (`--config`, or `./trunkline.toml` if there is one), the
environment, flags. `trunkline check` reports every problem at once, with file and line; `trunkline config default`
prints a file with every key at its default.

Durations carry their unit (`500ms`, `2s`, `5m`) and are at most 10 years, sizes may (`4KiB`, `16MiB`; kB and MB are
powers of 1024, as in PostgreSQL). `0` needs no unit.

Environment: `TRUNKLINE__SECTION__KEY`, such as `TRUNKLINE__HEALTH__MAX_LAG=2s` or
`TRUNKLINE__LOG__STATEMENTS__THRESHOLD=200ms`. A server or listener is named in the variable:
`TRUNKLINE__SERVER__REPLICA1__ADDRESS=10.0.0.12:5432` changes the server `replica1`, or adds it; a source is named in
`TRUNKLINE__DISCOVERY__SOURCE__PODS__INTERVAL=5s`. A list is written with commas.

`trunkline reload` (over the admin socket) and SIGHUP read everything again. A configuration with a problem changes nothing
at all, nor does one that needs an address that cannot be had. Listeners come, move and go; sessions that came by an address
that is given up go on. So do servers: one that is taken out is emptied first ([docs/running.md](running.md#servers-come-and-go)). A changed login of the monitor is tried on every server first: one that refuses it leaves all as it
was. These keys need a restart and keep their values: `log.format` and `[runtime]`. Each of them that differs is an error of the reload: `trunkline reload` prints it and exits with status 1, the
log has it, and the metric `trunkline_config_last_reload_successful` is 0 until all of the configuration is in force.
The flags and the environment of the process stay what they were at its start: what is to change while it runs belongs in
the file.
";

/// The page.
#[must_use]
pub fn reference() -> String {
    let mut out = HEADER.to_owned();
    table(
        &mut out,
        "[[server]]",
        "A PostgreSQL server. At least one is needed, unless a `[[discovery.source]]` finds them.",
        SERVER_KEYS,
    );
    table(
        &mut out,
        "[[listener]]",
        "An address clients connect to. Without any there is one: `reads` on 127.0.0.1:5434, `prefer-standby`.",
        LISTENER_KEYS,
    );
    for section in SECTIONS {
        table(&mut out, &format!("[{}]", section.name), section.doc, section.keys);
        if section.name == "discovery" {
            let doc = "Somebody who knows of servers: see [discovery.md](discovery.md).";
            table(&mut out, "[[discovery.source]]", doc, SOURCE_KEYS);
        }
        if section.name == "pool" {
            let doc = "What holds for some users or databases. Of several, the first that fits a session counts, for all its keys.";
            table(&mut out, "[[pool.override]]", doc, OVERRIDE_KEYS);
        }
    }
    out
}

fn table<T>(out: &mut String, title: &str, doc: &str, keys: &[Key<T>]) {
    let _ = write!(out, "\n## `{title}`\n\n{doc}\n\n| key | kind | default | meaning |\n|---|---|---|---|\n");
    for key in keys {
        let default = key.default.map_or_else(|| "unset".to_owned(), |default| format!("`{default}`"));
        let _ = writeln!(
            out,
            "| `{}` | {} | {default} | {} |",
            key.name,
            key.kind(),
            key.doc.replace('|', "\\|")
        );
    }
}
