//! A program that prints a password: `password_command`.
//!
//! No shell is involved. What the program prints is kept by whoever asked and is never logged; what it says on standard
//! error is.

#![expect(clippy::disallowed_methods, reason = "it runs on the control thread, which has tokio's timers")]

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, copy, sink};
use tokio::process::Command;
use tokio::time::timeout;
use zeroize::Zeroizing;

/// How long a run of the command may take.
pub const RUN_TIMEOUT: Duration = Duration::from_secs(10);

/// Most bytes of a password; tokens of clouds have some thousand.
const PASSWORD_BYTES_MAX: u64 = 16 * 1024;

/// Most bytes of standard error that are logged, of one run.
const COMPLAINT_BYTES_MAX: u64 = 4 * 1024;

/// Why there is no password.
#[derive(Debug)]
pub enum NoPassword {
    /// The program could not be run.
    NotRun(std::io::Error),
    /// It did not end in [`RUN_TIMEOUT`].
    TooSlow,
    /// It failed.
    Ended(ExitStatus),
    /// It printed too much.
    TooLong,
    /// It printed nothing.
    Empty,
    /// It printed more than a line, or bytes that are no text.
    NoText,
}

impl std::fmt::Display for NoPassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NoPassword::NotRun(error) => write!(f, "it could not be run: {error}"),
            NoPassword::TooSlow => write!(f, "it ran for more than {} s", RUN_TIMEOUT.as_secs()),
            NoPassword::Ended(status) => write!(f, "it failed ({status})"),
            NoPassword::TooLong => write!(f, "it printed more than {PASSWORD_BYTES_MAX} bytes"),
            NoPassword::Empty => f.write_str("it printed nothing"),
            NoPassword::NoText => f.write_str("it printed something that is no line of text"),
        }
    }
}

/// Runs the `command`, which the configuration calls `key`, with further `arguments`.
///
/// # Errors
/// Why it printed no password.
pub async fn run(key: &str, command: &[String], arguments: &[&str]) -> Result<Zeroizing<String>, NoPassword> {
    let (program, own) = command.split_first().ok_or(NoPassword::Empty)?;
    let mut child = Command::new(program)
        .args(own)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(NoPassword::NotRun)?;
    let (output, complaints) = (child.stdout.take(), child.stderr.take());
    let ended = timeout(RUN_TIMEOUT, async {
        let (printed, complained) =
            tokio::join!(up_to(PASSWORD_BYTES_MAX, output), up_to(COMPLAINT_BYTES_MAX, complaints));
        (printed, complained, child.wait().await)
    });
    let (printed, complained, status) = ended.await.map_err(|_elapsed| NoPassword::TooSlow)?;
    for line in String::from_utf8_lossy(&complained).lines() {
        tracing::warn!(line, "{key} says");
    }
    let status = status.map_err(NoPassword::NotRun)?;
    if !status.success() {
        return Err(NoPassword::Ended(status));
    }
    line_of(printed)
}

/// Reads to the end, and keeps one byte more than `most` at most: the command is not to fail for what nobody reads.
async fn up_to(most: u64, pipe: Option<impl AsyncRead + Unpin>) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::new());
    if let Some(pipe) = pipe {
        let mut kept = pipe.take(most + 1);
        // What came before an error is judged as if it were all.
        let _all = kept.read_to_end(&mut bytes).await;
        let _rest = copy(&mut kept.into_inner(), &mut sink()).await;
    }
    bytes
}

/// The password in what was printed, without the end of its line.
fn line_of(printed: Zeroizing<Vec<u8>>) -> Result<Zeroizing<String>, NoPassword> {
    if printed.len() as u64 > PASSWORD_BYTES_MAX {
        return Err(NoPassword::TooLong);
    }
    let text = std::str::from_utf8(&printed).map_err(|_| NoPassword::NoText)?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(NoPassword::Empty);
    }
    if text.contains(['\n', '\0']) {
        return Err(NoPassword::NoText);
    }
    Ok(Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_shell(script: &str) -> Result<String, String> {
        let command = ["sh", "-c", script].map(str::to_owned);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let ended = runtime.block_on(run("[monitor] password_command", &command, &[]));
        ended.map(|password| password.to_string()).map_err(|reason| reason.to_string())
    }

    #[test]
    fn password_is_the_line_that_is_printed() {
        let verbose = "head -c 100000 /dev/zero >&2; echo 'a b'";
        for script in
            [verbose, "printf 'a b'", "echo 'a b'", "printf 'a b\\r\\n'", "echo 'a b'; echo careful >&2"]
        {
            assert_eq!(by_shell(script).as_deref(), Ok("a b"), "{script}");
        }
    }

    #[test]
    fn what_is_no_password_is_none_and_is_not_repeated() {
        for (script, reason) in [
            ("true", "it printed nothing"),
            ("echo", "it printed nothing"),
            ("echo hunter2; exit 3", "it failed (exit status: 3)"),
            ("echo hunter2; echo hunter2", "it printed something that is no line of text"),
            ("printf 'hunter2\\377'", "it printed something that is no line of text"),
        ] {
            assert_eq!(by_shell(script).as_ref().map_err(String::as_str), Err(reason), "{script}");
        }
        let command = ["/nonexistent".to_owned()];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        assert!(matches!(
            runtime.block_on(run("[monitor] password_command", &command, &[])),
            Err(NoPassword::NotRun(_))
        ));
    }

    #[test]
    fn longest_password_is_taken_and_a_longer_one_is_not() {
        let of = |length: u64| by_shell(&format!("head -c {length} /dev/zero | tr '\\0' x"));
        assert_eq!(of(PASSWORD_BYTES_MAX).map(|password| password.len() as u64), Ok(PASSWORD_BYTES_MAX));
        let reason = of(PASSWORD_BYTES_MAX + 1).expect_err("it is too long");
        assert!(reason.starts_with("it printed more than"), "{reason}");
    }
}
