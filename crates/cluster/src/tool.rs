//! Running PostgreSQL's programs to their end.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use crate::ClusterError;
use crate::error::hint_for;

/// How many of a program's last lines an error shows.
const LINES_SHOWN: usize = 15;

/// Runs `command` to its end and gives its standard output.
pub(crate) fn run(command: &mut Command, tool: &str) -> Result<String, ClusterError> {
    let output = command.stdin(Stdio::null()).output().map_err(ClusterError::io(format!("run {tool}")))?;
    check(output, tool)
}

/// As [`run`], with `input` as its standard input.
pub(crate) fn run_with_input(command: &mut Command, tool: &str, input: &str) -> Result<Output, ClusterError> {
    let failed = || ClusterError::io(format!("run {tool}"));
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed())?;
    let mut stdin = child.stdin.take().expect("stdin was set to a pipe");
    // A program that ended early closes the pipe; its exit status says why, so the write error does not matter.
    let _closed_early = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().map_err(failed())
}

fn check(output: Output, tool: &str) -> Result<String, ClusterError> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Err(ClusterError::Tool {
        tool: tool.to_owned(),
        status: output.status.to_string(),
        output: last_lines(&text),
        hint: hint_for(&text),
    })
}

/// The last lines of `text`, indented to stand out below an error's first line.
pub(crate) fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(LINES_SHOWN);
    lines[from..].iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::{last_lines, run};
    use std::process::Command;

    #[test]
    fn only_the_end_of_a_long_log_is_shown() {
        let text: String = (0..100).map(|i| format!("line {i}\n")).collect();
        let shown = last_lines(&text);
        assert!(shown.starts_with("  line 85\n") && shown.ends_with("  line 99"), "{shown}");
    }

    #[test]
    fn a_failing_program_is_reported_with_its_words() {
        let error = run(Command::new("sh").args(["-c", "echo No space left on device >&2; exit 3"]), "sh")
            .expect_err("it exits with 3");
        let text = error.to_string();
        assert!(text.contains("exit status: 3") && text.contains("free some disk space"), "{text}");
    }
}
