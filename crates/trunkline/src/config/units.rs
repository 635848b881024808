//! Numbers with units: `500ms`, `16MiB`, and addresses: `[name=]host:port`.

use std::time::Duration;

use trunkline_topology::{Address, SOCKET_PATH_MAX};

/// Longest length of time: far more than anything here lasts, and little enough to be added to any moment.
/// These are humantime's years, of 365.25 days.
pub const DURATION_MAX: Duration = Duration::from_secs(DURATION_YEARS_MAX * 31_557_600);
const DURATION_YEARS_MAX: u64 = 10;

/// A length of time: `500ms`, `2s`, `1m 30s`. `0` needs no unit.
///
/// # Errors
/// What is wrong, in words.
pub fn duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    if !text.is_empty() && text != "0" && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("the unit is missing in {text:?}"));
    }
    match humantime::parse_duration(text) {
        Ok(duration) if duration <= DURATION_MAX => Ok(duration),
        Ok(_) | Err(humantime::DurationError::NumberOverflow) => {
            Err(format!("{text:?} is longer than {DURATION_YEARS_MAX} years"))
        }
        Err(_) => Err(format!("{text:?} is not a length of time")),
    }
}

/// A duration as `config default` writes it.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// Units of a number of bytes; longer ones first, so that `B` does not match before `KiB`.
const BYTE_UNITS: [(&str, u64); 7] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1 << 10),
    ("MB", 1 << 20),
    ("GB", 1 << 30),
    ("B", 1),
];

/// A number of bytes: `4096`, `64KiB`, `16MB`. PostgreSQL's kB, MB and GB are powers of 1024, and so here.
///
/// # Errors
/// What is wrong, in words.
pub fn bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let (number, unit) = BYTE_UNITS
        .iter()
        .find_map(|(name, unit)| text.strip_suffix(name).map(|number| (number.trim_end(), *unit)))
        .unwrap_or((text, 1));
    let number: u64 = number.parse().map_err(|_| format!("{text:?} is not a number of bytes"))?;
    number.checked_mul(unit).ok_or_else(|| format!("{text:?} is too large"))
}

/// A server's address, with the name it may have been given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Host name or address, without brackets.
    pub host: String,
    /// Port; 5432 when none is written.
    pub port: u16,
}

/// A server's address: as [`host_port`], or the directory of its Unix socket: `/run/postgresql:5432`.
///
/// # Errors
/// What is wrong, in words.
pub fn server(text: &str) -> Result<HostPort, String> {
    let text = text.trim();
    if !text.starts_with('/') {
        return host_port(text);
    }
    let (directory, port) = text.rsplit_once(':').unwrap_or((text, "5432"));
    if let Some((directory, own_port)) = directory.rsplit_once("/.s.PGSQL.") {
        return Err(format!(
            "{text:?} names the socket itself: write its directory, \"{directory}:{own_port}\""
        ));
    }
    let port = parse_port(Some(port)).ok_or_else(|| format!("{text:?} has no valid port (1 to 65535)"))?;
    let directory = directory.trim_end_matches('/');
    let socket = Address::of_directory(directory, port).map(|socket| socket.to_string());
    match socket {
        Some(socket) if socket.len() <= SOCKET_PATH_MAX && !directory.contains('\0') => {
            Ok(HostPort { host: directory.to_owned(), port })
        }
        Some(socket) => Err(format!("the path {socket:?} is longer than {SOCKET_PATH_MAX} bytes")),
        None => Err(format!("{text:?} names no directory")),
    }
}

fn parse_port(port: Option<&str>) -> Option<u16> {
    port.and_then(|port| port.parse().ok()).filter(|port| *port != 0)
}

/// `host:port`, `host`, `[::1]:5432`.
///
/// # Errors
/// What is wrong, in words.
pub fn host_port(text: &str) -> Result<HostPort, String> {
    let text = text.trim();
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) =
                rest.split_once(']').ok_or_else(|| format!("the bracket in {text:?} is not closed"))?;
            (host, after.strip_prefix(':').or(after.is_empty().then_some("5432")))
        }
        None if text.matches(':').count() > 1 => {
            return Err(format!("an IPv6 address is written in brackets, as in [{text}]:5432"));
        }
        None => text.split_once(':').map_or((text, Some("5432")), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c == '/' || c == '=' || c.is_control())
    {
        return Err(format!("{text:?} has no valid host"));
    }
    let port = parse_port(port).ok_or_else(|| format!("{text:?} has no valid port (1 to 65535)"))?;
    Ok(HostPort { host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn durations_carry_their_unit() {
        assert_eq!(duration("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(duration(" 1m 30s ").unwrap(), Duration::from_secs(90));
        assert_eq!(duration("0").unwrap(), Duration::ZERO);
        assert_eq!(duration("10").unwrap_err(), r#"the unit is missing in "10""#);
        assert!(duration("").is_err() && duration("fast").is_err() && duration("-1s").is_err());
    }

    #[test]
    fn durations_end_at_ten_years() {
        assert_eq!(duration("10years").unwrap(), DURATION_MAX);
        for text in ["10years 1ns", "1000000000 days", "99999999999999999999 days"] {
            assert_eq!(duration(text).unwrap_err(), format!("{text:?} is longer than 10 years"));
        }
        assert!(std::time::Instant::now().checked_add(DURATION_MAX).is_some());
    }

    #[test]
    fn bytes_are_powers_of_1024() {
        assert_eq!(bytes("4096").unwrap(), 4096);
        assert_eq!(bytes("64KiB").unwrap(), 65536);
        assert_eq!(bytes("16 MB").unwrap(), 16 << 20);
        assert!(bytes("many").is_err() && bytes("MB").is_err() && bytes("99999999999999999GB").is_err());
    }

    #[test]
    fn addresses_may_be_names_ipv4_or_bracketed_ipv6() {
        let is = |text: &str, host: &str, port| {
            assert_eq!(host_port(text).unwrap(), HostPort { host: host.into(), port })
        };
        is("db1:5433", "db1", 5433);
        is("db1", "db1", 5432);
        is("[::1]:5433", "::1", 5433);
        is("[::1]", "::1", 5432);
        for wrong in ["", "/run", ":5432", "db1:", "db1:0", "db1:70000", "::1", "[::1", "a b:1", "[::1]5432"]
        {
            assert!(host_port(wrong).is_err(), "{wrong} was accepted");
        }
    }

    #[test]
    fn a_server_may_be_the_directory_of_its_socket() {
        let is = |text: &str, host: &str, port| {
            assert_eq!(server(text).unwrap(), HostPort { host: host.into(), port })
        };
        is("/run/postgresql:5433", "/run/postgresql", 5433);
        is("/run/postgresql/", "/run/postgresql", 5432);
        is("db1:5433", "db1", 5433);
        let longest = format!("/{}", "x".repeat(SOCKET_PATH_MAX - "//.s.PGSQL.5432".len()));
        is(&longest, &longest, 5432);
        for text in ["/run/postgresql/.s.PGSQL.5433", "/run/postgresql/.s.PGSQL.5433:5432"] {
            let advice = "names the socket itself: write its directory, \"/run/postgresql:5433\"";
            assert_eq!(server(text).unwrap_err(), format!("{text:?} {advice}"));
        }
        for wrong in ["/", "/run:0", "/run:x", &format!("{longest}x")] {
            assert!(server(wrong).is_err(), "{wrong} was accepted");
        }
    }
}
