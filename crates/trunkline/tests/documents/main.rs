//! What the documents name exists: links, pictures, paths, commands, flags, keys, metrics.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod commands;
mod configurations;
mod keys;
mod markdown;
mod repository;

use repository::{Repository, join};

/// Ends of paths that are looked for wherever they begin.
const SOURCE_ENDINGS: [&str; 4] = [".rs", ".sh", ".py", ".md"];

/// Names that begin as metrics do: the role of the probes.
const NOT_METRICS: [&str; 1] = ["trunkline_monitor"];

/// Names what was renamed, too, by its old names.
const CHANGELOG: &str = "CHANGELOG.md";

/// Calls `broken_in` with every document, and fails with all that it found.
fn in_every_document(broken_in: impl Fn(&Repository, &str, &str) -> Vec<String>) {
    let repository = Repository::open();
    let mut broken = Vec::new();
    for document in repository.documents() {
        let found = broken_in(&repository, document, &repository.read(document));
        broken.extend(found.into_iter().map(|what| format!("{document}: {what}")));
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn links_and_pictures_lead_to_files_of_the_repository() {
    in_every_document(|repository, document, text| {
        let links = markdown::links(text).into_iter().filter(|link| !link.contains("://"));
        links
            .filter(|link| !leads_somewhere(repository, document, link))
            .map(|link| format!("link {link}"))
            .collect()
    });
}

fn leads_somewhere(repository: &Repository, document: &str, link: &str) -> bool {
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let folder = document.rsplit_once('/').map_or("", |(folder, _)| folder);
    let Some(path) = (if path.is_empty() { Some(document.to_owned()) } else { join(folder, path) }) else {
        return false;
    };
    repository.has(&path)
        && (anchor.is_empty()
            || markdown::anchors(&repository.read(&path)).iter().any(|known| known == anchor))
}

#[test]
fn paths_in_code_exist() {
    in_every_document(|repository, document, text| {
        let paths = markdown::code_words(text).into_iter().filter(|word| is_path(repository, word));
        let missing = paths.flat_map(|word| alternatives(&word)).filter(|path| {
            // What stands in for a name ends what can be looked for.
            let known = path.split(['<', '*', '$', '…']).next().unwrap_or_default();
            let known = if known.len() < path.len() {
                known.rsplit_once('/').map_or("", |(path, _)| path)
            } else {
                known
            };
            repository.find(document, known).is_none()
        });
        missing.map(|path| format!("path {path}")).collect()
    });
}

/// Whether a word of code is the path of a file here: it begins with a folder of ours, or ends as sources do.
fn is_path(repository: &Repository, word: &str) -> bool {
    let word = word.strip_prefix("./").unwrap_or(word);
    let Some((first, rest)) = word.split_once('/') else { return false };
    let is_crate = ["src", "tests", "examples"].iter().any(|folder| rest.starts_with(folder));
    repository.is_top_folder(first)
        || (is_crate && repository.has(&format!("crates/{first}")))
        || (!first.is_empty()
            && !word.contains(':')
            && SOURCE_ENDINGS.iter().any(|ending| word.ends_with(ending)))
}

/// `a/{b,c}` names `a/b` and `a/c`.
fn alternatives(path: &str) -> Vec<String> {
    let Some((before, rest)) = path.split_once('{') else { return vec![path.to_owned()] };
    let Some((names, after)) = rest.split_once('}') else { return vec![path.to_owned()] };
    names.split(',').map(|name| format!("{before}{name}{after}")).collect()
}

#[test]
fn names_behind_a_path_are_defined_in_that_file() {
    in_every_document(|repository, document, text| {
        let spans = markdown::spans(text);
        let pairs = spans.iter().filter_map(|span| span.split_once(".rs: "));
        let missing = pairs.filter(|(path, name)| {
            let file = repository.find(document, &format!("{path}.rs"));
            !file.is_some_and(|file| defines(&repository.read(&file), name))
        });
        missing.map(|(path, name)| format!("{name} is not defined in {path}.rs")).collect()
    });
}

/// Whether the source defines a function, type, trait or constant of that name.
fn defines(source: &str, name: &str) -> bool {
    let kinds = ["fn", "struct", "enum", "trait", "type", "const", "static"];
    source.lines().filter(|line| !line.trim_start().starts_with("//")).any(|line| {
        kinds.iter().any(|kind| {
            line.split_once(&format!("{kind} {name}")).is_some_and(|(before, after)| {
                let is_whole_word = before.is_empty() || before.ends_with([' ', '\t']);
                is_whole_word && !after.starts_with(|c: char| c.is_alphanumeric() || c == '_')
            })
        })
    })
}

#[test]
fn architecture_has_one_folder_for_each_thing_to_add() {
    let text = Repository::open().read("ARCHITECTURE.md");
    let (_, table) = text.split_once("| to add | open |").expect("the table is there");
    let rows: Vec<_> = table.lines().skip(2).take_while(|line| line.starts_with('|')).collect();
    assert!(rows.len() >= 10, "{} rows", rows.len());
    for row in rows {
        let folder = row.split('|').nth(2).expect("a row has three columns");
        assert_eq!(markdown::spans(folder).len(), 1, "one folder: {row}");
    }
}

#[test]
fn commands_of_make_exist() {
    let makefile = Repository::open().read("Makefile");
    in_every_document(|_, _, text| {
        let lines = markdown::code_lines(text);
        let goals = lines.iter().flat_map(|line| goals(line));
        let missing =
            goals.filter(|goal| !makefile.lines().any(|line| line.starts_with(&format!("{goal}:"))));
        missing.map(|goal| format!("make {goal}")).collect()
    });
}

/// What `make` is asked for in a line, where it is a command and not the name of a package.
fn goals(line: &str) -> Vec<&str> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let is_command = |index: usize| index == 0 || ["$", "&&", "|", ";", "sudo"].contains(&words[index - 1]);
    let calls = words.windows(2).enumerate().filter(|(index, pair)| pair[0] == "make" && is_command(*index));
    calls.map(|(_, pair)| pair[1].trim_end_matches([',', '.'])).filter(|goal| *goal != "#").collect()
}

#[test]
fn commands_and_flags_of_trunkline_exist() {
    in_every_document(|_, document, text| match document {
        CHANGELOG => Vec::new(),
        _ => markdown::code_lines(text).iter().flat_map(|line| commands::unknown(line)).collect(),
    });
}

#[test]
fn keys_of_the_configuration_exist() {
    in_every_document(|_, document, text| match document {
        CHANGELOG => Vec::new(),
        _ => markdown::code_lines(text).iter().flat_map(|line| keys::unknown(line)).collect(),
    });
}

#[test]
fn metrics_named_in_documents_and_alerts_exist() {
    let repository = Repository::open();
    let reference = repository.read("docs/metrics.md");
    let alerts = "deploy/prometheus/alerts.yml";
    let documents = repository.documents().filter(|document| *document != CHANGELOG);
    let mut unknown = Vec::new();
    for document in documents.chain([alerts]) {
        let text = repository.read(document);
        let names = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for name in names {
            let Some(rest) = name.strip_prefix("trunkline_") else { continue };
            if NOT_METRICS.contains(&name) || repository.has(&format!("crates/{rest}")) {
                continue;
            }
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
            if !reference.contains(&format!("`{}`", family.unwrap_or(name))) {
                unknown.push(format!("{document}: metric {name}"));
            }
        }
    }
    assert!(unknown.is_empty(), "\n{}", unknown.join("\n"));
}
