//! Calls of `trunkline` in lines of shell, against the command line that clap knows.

use clap::Command;
use trunkline::cli;

/// What follows the name of the program without being a command: the text of a notice.
const NOT_COMMANDS: [&str; 1] = ["timing"];

/// Words after which `trunkline` is a value of another program, such as cargo, docker or patronictl.
const BEFORE_A_VALUE: [&str; 5] = ["-p", "-t", "--path", "switchover", "reinit"];

/// The commands and flags in `line` that do not exist.
pub(crate) fn unknown(line: &str) -> Vec<String> {
    let words = shell_words(line);
    let calls = words.iter().enumerate().filter(|(index, word)| {
        let is_value = index.checked_sub(1).is_some_and(|before| BEFORE_A_VALUE.contains(&&*words[before]));
        !is_value && (*word == "trunkline" || word.ends_with("/trunkline"))
    });
    let calls: Vec<_> = calls.map(|(index, _)| &words[index + 1..]).collect();
    if calls.is_empty() {
        return Vec::new();
    }
    let mut cli = cli::command();
    cli.build();
    calls.into_iter().flat_map(|call| unknown_in_call(&cli, call)).collect()
}

fn unknown_in_call(cli: &Command, words: &[String]) -> Vec<String> {
    let words =
        words.iter().take_while(|word| !is_end(word)).map(|word| word.trim_matches(['[', ']', ';', ',']));
    let words: Vec<_> = words.collect();
    let Some(first) = words.first() else { return Vec::new() };
    if first.starts_with('-') {
        return unknown_flags(cli, &words);
    }
    // `drain|maint|ready` names three.
    let names: Vec<_> = first.split(['|', '\\']).filter(|name| !name.is_empty()).collect();
    let is_command = |name: &&str| name.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    if !names.iter().all(is_command) || NOT_COMMANDS.contains(first) {
        return Vec::new();
    }
    let unknown = names.iter().flat_map(|name| match cli.find_subcommand(name) {
        None => vec![format!("command trunkline {name}")],
        Some(command) => {
            let inner = words.get(1).and_then(|word| command.find_subcommand(word));
            unknown_flags(inner.unwrap_or(command), &words[1..])
        }
    });
    unknown.collect()
}

/// Whether the command ends before this word.
fn is_end(word: &str) -> bool {
    ["|", "||", "&", "&&", ";", ">", "<", "--"].contains(&word) || word.starts_with('#')
}

fn unknown_flags(command: &Command, words: &[&str]) -> Vec<String> {
    let is_known = |word: &str| {
        let name = word.split('=').next().unwrap_or_default();
        command.get_arguments().any(|argument| match name.strip_prefix("--") {
            Some(long) => argument.get_long_and_visible_aliases().is_some_and(|known| known.contains(&long)),
            None => argument.get_short().is_some_and(|short| name == format!("-{short}")),
        })
    };
    let is_flag = |word: &&&str| word.len() > 1 && word.starts_with('-');
    let unknown = words.iter().filter(is_flag).filter(|word| !is_known(word));
    unknown.map(|word| format!("flag {word} of {}", command.get_name())).collect()
}

/// The words of a line of shell; what stands in quotes is one, and never a flag.
fn shell_words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in line.chars().chain([' ']) {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => word.push('"'),
            None if c == '"' || c == '\'' => {
                quote = Some(c);
                word.push('"');
            }
            None if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            None => word.push(c),
        }
    }
    words
}

#[test]
fn every_example_of_the_help_is_known_to_clap() {
    let cli = cli::command();
    for command in cli.get_subcommands().chain([&cli]) {
        let help = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
        let lines = help.replace("\\\n", " ");
        let found: Vec<_> = lines.lines().filter(|line| line.starts_with("  ")).flat_map(unknown).collect();
        assert!(found.is_empty(), "{}: {found:?}", command.get_name());
    }
}

#[test]
fn what_clap_does_not_know_is_found() {
    assert_eq!(unknown("./trunkline nosuch --x"), ["command trunkline nosuch"]);
    assert_eq!(
        unknown("sudo trunkline drain|maint|ready S --quiet | trunkline --x"),
        ["flag --quiet of drain", "flag --quiet of maint", "flag --quiet of ready", "flag --x of trunkline",]
    );
    assert_eq!(unknown("trunkline profile -n 20 -q \"SELECT -1 --x\""), ["flag -q of profile"]);
    let known = "cargo install --path crates/trunkline --locked && trunkline demo --exec 'y --via' --max-lag=2s # --z";
    assert!(unknown(known).is_empty(), "{:?}", unknown(known));
}
