//! One event is one line of logfmt: `time=... level=info message="session moved" from=replica1 to=replica2`.
//!
//! Values that are more than a word are quoted. Names of users, databases and settings come from clients, before they have
//! proved who they are: a line break in one would begin a line that nobody wrote, and an escape sequence would reach the
//! operator's terminal, so control characters are escaped, as in JSON.

use std::fmt::{self, Debug, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// What a line begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineHead {
    /// Time and level.
    TimeAndLevel,
    /// Nothing: the reader sees it happen.
    Nothing,
}

/// Writes events as logfmt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Logfmt {
    pub(super) head: LineHead,
    /// Whether the level is coloured, for a terminal.
    pub(super) is_coloured: bool,
}

impl<S, N> FormatEvent<S, N> for Logfmt
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if self.head == LineHead::TimeAndLevel {
            writer.write_str("time=")?;
            SystemTime.format_time(&mut writer)?;
            writer.write_str(" level=")?;
            self.level(&mut writer, *event.metadata().level())?;
            writer.write_char(' ')?;
        }
        let mut line = Line { writer: &mut writer, is_empty: true, outcome: Ok(()), value: String::new() };
        event.record(&mut line);
        line.outcome?;
        writer.write_char('\n')
    }
}

impl Logfmt {
    fn level(self, writer: &mut Writer<'_>, level: Level) -> fmt::Result {
        // Source: ECMA-48, SGR: red, yellow, green, blue, magenta.
        let (word, colour) = match level {
            Level::ERROR => ("error", 31),
            Level::WARN => ("warn", 33),
            Level::INFO => ("info", 32),
            Level::DEBUG => ("debug", 34),
            Level::TRACE => ("trace", 35),
        };
        if self.is_coloured { write!(writer, "\x1b[{colour}m{word}\x1b[0m") } else { writer.write_str(word) }
    }
}

/// The fields of an event, as they are written.
struct Line<'l, 'w> {
    writer: &'l mut Writer<'w>,
    is_empty: bool,
    outcome: fmt::Result,
    /// The value before it is known whether it has to be quoted.
    value: String,
}

impl Line<'_, '_> {
    fn put(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        if self.outcome.is_ok() {
            self.outcome = self.write(field.name(), value);
        }
    }

    fn write(&mut self, name: &str, value: fmt::Arguments<'_>) -> fmt::Result {
        if !std::mem::replace(&mut self.is_empty, false) {
            self.writer.write_char(' ')?;
        }
        self.value.clear();
        self.value.write_fmt(value)?;
        write!(self.writer, "{}=", name.strip_prefix("r#").unwrap_or(name))?;
        write_value(self.writer, &self.value)
    }
}

impl Visit for Line<'_, '_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, format_args!("{value}"));
    }
}

/// Writes a value, quoted unless it is a word.
fn write_value(writer: &mut impl Write, value: &str) -> fmt::Result {
    let needs_quotes = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '=' | '\\');
    if !value.is_empty() && !value.contains(needs_quotes) {
        return writer.write_str(value);
    }
    writer.write_char('"')?;
    let mut rest = value;
    let is_escaped = |c: &char| c.is_control() || matches!(c, '"' | '\\');
    while let Some((at, c)) = rest.char_indices().find(|(_, c)| is_escaped(c)) {
        writer.write_str(&rest[..at])?;
        match c {
            '"' | '\\' => write!(writer, "\\{c}")?,
            '\n' => writer.write_str("\\n")?,
            '\r' => writer.write_str("\\r")?,
            '\t' => writer.write_str("\\t")?,
            // Control characters are at most U+009F.
            control => write!(writer, "\\u{:04x}", u32::from(control))?,
        }
        rest = &rest[at + c.len_utf8()..];
    }
    writer.write_str(rest)?;
    writer.write_char('"')
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What `work` logs.
    fn logged(format: Logfmt, work: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = fmt::layer().event_format(format).with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), work);
        let bytes = lines.0.lock().expect("not poisoned").clone();
        String::from_utf8(bytes).expect("UTF-8")
    }

    const BARE: Logfmt = Logfmt { head: LineHead::Nothing, is_coloured: false };

    #[test]
    fn an_event_is_its_message_and_fields_quoted_where_needed() {
        let line = logged(BARE, || {
            tracing::info!(
                session.id = 7_u64, server.name = %"replica1", took = ?std::time::Duration::from_millis(5),
                none = None::<u64>, empty = "", sql = "SELECT \"a\\b\" = 1", r#type = true, "session {}", "moved"
            );
        });
        let expected = "message=\"session moved\" session.id=7 server.name=replica1 took=5ms empty=\"\" \
                        sql=\"SELECT \\\"a\\\\b\\\" = 1\" type=true\n";
        assert_eq!(line, expected);
    }

    #[test]
    fn a_line_begins_with_time_and_level_and_only_a_terminals_level_is_coloured() {
        let plain = Logfmt { head: LineHead::TimeAndLevel, is_coloured: false };
        let line = logged(plain, || tracing::warn!("late"));
        let (time, rest) = line.split_once(' ').expect("more than a word");
        assert!(time.starts_with("time=2") && time.ends_with('Z'), "{line}");
        assert_eq!(rest, "level=warn message=late\n");
        let line = logged(Logfmt { is_coloured: true, ..plain }, || tracing::warn!("late"));
        assert!(line.ends_with("level=\x1b[33mwarn\x1b[0m message=late\n"), "{line:?}");
    }

    #[test]
    fn an_event_is_one_line_whatever_a_client_calls_itself() {
        let name = "f\u{fc}r\nERROR forged\r\x1b[31m\u{9b}\x7f\0";
        let line = logged(BARE, || tracing::info!(db.user = %name, quoted = name, "refused: {name}"));
        assert_eq!(line.matches('\n').count(), 1, "{line:?}");
        assert!(line.trim_end().chars().all(|c| !c.is_control()), "{line:?}");
        let quoted = "=\"f\u{fc}r\\nERROR forged\\r\\u001b[31m\\u009b\\u007f\\u0000\"";
        assert_eq!(line.matches(quoted).count(), 2, "{line}");
    }
}
