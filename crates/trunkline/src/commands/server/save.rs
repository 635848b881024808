//! Writes a change of the set of servers to a configuration file; comments and order stay.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::Path;

use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

use super::KeyFlags;
use crate::Failure;

/// What is to be written.
#[derive(Debug)]
pub(super) enum SavedEdit<'a> {
    Add { name: &'a str, address: &'a str, keys: &'a KeyFlags },
    Set { name: &'a str, keys: &'a KeyFlags },
    Remove { name: &'a str },
}

/// Writes it; the file is whole at all times.
pub(super) fn save(file: &Path, edit: &SavedEdit<'_>) -> Result<(), Failure> {
    let failed = |error: io::Error| not_saved(file, &error.to_string());
    let text = fs::read_to_string(file).map_err(failed)?;
    let edited = apply(&text, edit).map_err(|why| not_saved(file, &why))?;
    replace(file, &edited).map_err(failed)
}

fn not_saved(file: &Path, why: &str) -> Failure {
    Failure::new(format!("it is in force, but not saved in {}: {why}", file.display()))
        .hint("Write it there by hand: a restart forgets it otherwise.")
}

fn apply(text: &str, edit: &SavedEdit<'_>) -> Result<String, String> {
    let mut document: DocumentMut = text.parse().map_err(|error| format!("not valid TOML: {error}"))?;
    let servers = document.entry("server").or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
    let servers = servers.as_array_of_tables_mut().ok_or("server is no list of [[server]] there")?;
    match edit {
        SavedEdit::Add { name, address, keys } => {
            if position(servers, name).is_some() {
                return Err(format!("there is a [[server]] named \"{name}\" already"));
            }
            let mut server = Table::new();
            server["name"] = value(*name);
            server["address"] = value(*address);
            put(&mut server, keys);
            servers.push(server);
        }
        SavedEdit::Set { name, keys } => {
            let at = position(servers, name).ok_or_else(|| not_there(name))?;
            if let Some(server) = servers.get_mut(at) {
                put(server, keys);
            }
        }
        SavedEdit::Remove { name } => {
            let at = position(servers, name).ok_or_else(|| not_there(name))?;
            servers.remove(at);
        }
    }
    Ok(document.to_string())
}

fn not_there(name: &str) -> String {
    format!("there is no [[server]] with name = \"{name}\"")
}

fn position(servers: &ArrayOfTables, name: &str) -> Option<usize> {
    servers.iter().position(|server| server.get("name").and_then(Item::as_str) == Some(name))
}

fn put(server: &mut Table, keys: &KeyFlags) {
    if let Some(role) = &keys.role {
        server["role"] = value(role);
    }
    if let Some(weight) = keys.weight {
        server["weight"] = value(i64::from(weight));
    }
    match keys.zone.as_deref() {
        Some("") => _ = server.remove("zone"),
        Some(zone) => server["zone"] = value(zone),
        None => {}
    }
}

/// Puts `text` in the place of the file: written aside, with its owner and permissions, and renamed.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    // A link to the file stays one.
    let file = file.canonicalize()?;
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let aside = file.with_file_name(name);
    let before = fs::metadata(&file)?;
    let written = fs::File::create(&aside).and_then(|mut new| {
        keep_owner(&new, &before)?;
        // After the owner: a change of that may take permissions away.
        new.set_permissions(before.permissions())?;
        new.write_all(text.as_bytes())?;
        new.sync_all()?;
        fs::rename(&aside, &file)
    });
    if written.is_err() {
        // What is left of it is of no use; whether it goes changes nothing.
        let _left = fs::remove_file(&aside);
    }
    written
}

/// Gives `new` the owner and group of the file that it replaces: the proxy may not be able to read it otherwise.
fn keep_owner(new: &fs::File, before: &fs::Metadata) -> io::Result<()> {
    let now = new.metadata()?;
    if (now.uid(), now.gid()) == (before.uid(), before.gid()) {
        return Ok(());
    }
    fchown(new, Some(before.uid()), Some(before.gid())).map_err(|error| {
        let (owner, group) = (before.uid(), before.gid());
        io::Error::new(error.kind(), format!("could not keep owner {owner} and group {group}: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
# Ours.
[health]
max_lag = \"5s\"  # not more

[[server]]
name = \"primary\"
address = \"10.0.0.10:5432\"

# The old one.
[[server]]
name = \"replica1\"
address = \"10.0.0.11:5432\"
";

    fn keys(weight: Option<u16>, zone: Option<&str>) -> KeyFlags {
        KeyFlags { role: None, weight, zone: zone.map(str::to_owned) }
    }

    #[test]
    fn a_server_is_added_at_the_end_and_the_rest_stays() {
        let keys = keys(Some(50), Some("a"));
        let edit = SavedEdit::Add { name: "replica2", address: "10.0.0.12:5432", keys: &keys };
        let added = apply(FILE, &edit).expect("valid");
        assert!(added.starts_with(FILE), "{added}");
        let new =
            "[[server]]\nname = \"replica2\"\naddress = \"10.0.0.12:5432\"\nweight = 50\nzone = \"a\"\n";
        assert!(added.ends_with(new), "{added}");
        assert!(apply(&added, &edit).is_err(), "it is there");
    }

    #[test]
    fn keys_are_set_and_taken_back() {
        let set = apply(FILE, &SavedEdit::Set { name: "replica1", keys: &keys(Some(7), Some("b")) });
        let set = set.expect("valid");
        assert_eq!(set, format!("{FILE}weight = 7\nzone = \"b\"\n"));
        let back = apply(&set, &SavedEdit::Set { name: "replica1", keys: &keys(None, Some("")) });
        assert_eq!(back, Ok(format!("{FILE}weight = 7\n")));
        assert!(apply(FILE, &SavedEdit::Set { name: "replica9", keys: &keys(Some(7), None) }).is_err());
    }

    #[test]
    fn a_server_is_removed_with_its_comment() {
        let removed = apply(FILE, &SavedEdit::Remove { name: "replica1" }).expect("valid");
        assert_eq!(Some(removed.as_str()), FILE.split_once("\n# The old one").map(|(before, _)| before));
    }

    #[test]
    fn the_file_keeps_its_permissions_and_its_links() {
        use std::os::unix::fs::PermissionsExt as _;

        let directory = tempfile::tempdir().expect("a directory");
        let (file, link) = (directory.path().join("a.toml"), directory.path().join("b.toml"));
        fs::write(&file, FILE).expect("writable");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("ours");
        std::os::unix::fs::symlink(&file, &link).expect("a link");
        assert!(save(&link, &SavedEdit::Remove { name: "replica1" }).is_ok());
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o640);
        assert!(!fs::read_to_string(&file).expect("readable").contains("replica1"));
        assert_eq!(fs::read_dir(directory.path()).expect("readable").count(), 2);
    }

    #[test]
    fn the_file_keeps_its_owner_and_group() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("a.toml");
        fs::write(&file, FILE).expect("writable");
        // Only root can give a file away; for others it stays theirs.
        let _given = std::os::unix::fs::chown(&file, Some(12_345), Some(54_321));
        let owner = |file: &Path| fs::metadata(file).map(|now| (now.uid(), now.gid())).expect("there");
        let before = owner(&file);
        assert!(save(&file, &SavedEdit::Remove { name: "replica1" }).is_ok());
        assert_eq!(owner(&file), before);
    }
}
