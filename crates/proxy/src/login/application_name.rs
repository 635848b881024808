//! Adds the client's address to `application_name`: `pg_stat_activity` shows only the proxy's own address.
//!
//! Servers get `psql - 192.0.2.1:40001`, in PgBouncer's form; the client sees the name it asked for. A name that
//! the client sets after its login is left alone.

use std::net::SocketAddr;

use bytes::BytesMut;
use trunkline_codec::backend::ParameterStatus;
use trunkline_codec::scan::Piece;
use trunkline_codec::scan::Scanner;
use trunkline_codec::startup::StartupMessage;
use trunkline_codec::write;
use trunkline_topology::ClientAddress;

/// Bytes of an application_name that servers keep.
/// Source: PostgreSQL, src/include/pg_config_manual.h, NAMEDATALEN - 1.
const NAME_BYTES_MAX: usize = 63;

const PARAMETER: &str = "application_name";

/// The two forms of the name.
#[derive(Debug)]
pub(crate) struct ApplicationName {
    /// The name that the client asked for, as a server would report it.
    asked: Box<[u8]>,
    /// The name with the client's address.
    with_address: Box<[u8]>,
}

impl ApplicationName {
    /// Adds the client's address to the name it asks for. If both are too long, the name is cut.
    pub(super) fn with_address(startup: &StartupMessage, client: ClientAddress) -> Self {
        let in_options =
            || startup.options().filter(|o| o.name == PARAMETER.as_bytes()).last().map(|o| o.value);
        let asked = startup.get(PARAMETER).map(<[u8]>::to_vec).or_else(in_options).unwrap_or_default();
        // Servers before 16 replace each byte that is not ASCII by one character. So does the proxy, so that
        // lengths are known.
        let clean = |byte: &u8| if byte.is_ascii_graphic() || *byte == b' ' { *byte } else { b'?' };
        let asked: Vec<u8> = asked.iter().map(clean).take(NAME_BYTES_MAX).collect();
        let address = match client {
            ClientAddress::Tcp(address) => {
                SocketAddr::new(address.ip().to_canonical(), address.port()).into()
            }
            ClientAddress::Local => client,
        };
        let suffix = if asked.is_empty() { address.to_string() } else { format!(" - {address}") };
        let kept = asked.len().min(NAME_BYTES_MAX - suffix.len());
        let with_address = [&asked[..kept], suffix.as_bytes()].concat();
        ApplicationName { asked: asked.into(), with_address: with_address.into() }
    }

    /// The startup packet for servers; unchanged when it has no room for the longer name.
    pub(super) fn tell(&self, startup: &StartupMessage) -> StartupMessage {
        let others = startup.parameters().filter(|(name, _)| *name != PARAMETER.as_bytes());
        let all = others.chain([(PARAMETER.as_bytes(), &*self.with_address)]);
        StartupMessage::new(startup.version(), all).unwrap_or_else(|_too_long| startup.clone())
    }

    /// Replaces the name with the address in a server's `messages` by the name that the client asked for.
    pub(crate) fn hide(&self, messages: &mut BytesMut) {
        let mut out = BytesMut::with_capacity(messages.len());
        let mut scanner = Scanner::backend();
        let (mut at, mut before) = (0, 0);
        while let Ok(Some(piece)) = scanner.next(messages, &mut at) {
            let is_ours = |status: &ParameterStatus<'_>| {
                status.name == PARAMETER.as_bytes() && status.value == &*self.with_address
            };
            let told = match piece {
                Piece::Message { tag: b'S', body } => ParameterStatus::parse(body).ok().filter(is_ours),
                Piece::Message { .. } | Piece::Start { .. } | Piece::More { .. } => None,
            };
            let written = told.map(|_| write::parameter_status(&mut out, PARAMETER.as_bytes(), &self.asked));
            if !matches!(written, Some(Ok(()))) {
                out.extend_from_slice(&messages[before..at]);
            }
            before = at;
        }
        out.extend_from_slice(&messages[before..]);
        *messages = out;
    }
}

#[cfg(test)]
mod tests {
    use trunkline_codec::startup::ProtocolVersion;

    use super::*;

    fn startup(parameters: &[(&str, &str)]) -> StartupMessage {
        let all = [("user", "u")].iter().chain(parameters).map(|(n, v)| (n.as_bytes(), v.as_bytes()));
        StartupMessage::new(ProtocolVersion::V3_0, all).expect("short")
    }

    fn told(parameters: &[(&str, &str)], client: &str) -> (String, String) {
        let startup = startup(parameters);
        let name =
            ApplicationName::with_address(&startup, client.parse::<SocketAddr>().expect("an address").into());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(name.tell(&startup).get(PARAMETER), Some(&*name.with_address));
        (text(&name.with_address), text(&name.asked))
    }

    #[test]
    fn the_address_follows_the_name() {
        let told_psql = told(&[(PARAMETER, "psql")], "192.0.2.1:40001");
        assert_eq!(told_psql, ("psql - 192.0.2.1:40001".to_owned(), "psql".to_owned()));
        assert_eq!(told(&[], "[::ffff:192.0.2.1]:7").0, "192.0.2.1:7");
        assert_eq!(
            told(&[("options", "-c application_name=batch")], "[2001:db8::3]:7").0,
            "batch - [2001:db8::3]:7"
        );
        assert_eq!(
            told(&[(PARAMETER, "é")], "192.0.2.1:7"),
            ("?? - 192.0.2.1:7".to_owned(), "??".to_owned())
        );
    }

    #[test]
    fn a_long_name_is_cut_and_its_address_is_not() {
        let client = "[2001:db8:1111:2222:3333:4444:5555:6666]:65535";
        for length in [12, 13, 14, 62, 63, 64, 200] {
            let long = "n".repeat(length);
            let (with_address, asked) = told(&[(PARAMETER, &long)], client);
            assert!(with_address.ends_with(&format!("n - {client}")), "{with_address}");
            assert!(with_address.len() <= NAME_BYTES_MAX);
            assert_eq!(asked.len(), length.min(NAME_BYTES_MAX), "as PostgreSQL cuts it");
        }
    }

    #[test]
    fn the_client_is_told_its_own_name_and_all_else_as_it_came() {
        let name = ApplicationName::with_address(
            &startup(&[(PARAMETER, "psql")]),
            SocketAddr::from(([192, 0, 2, 1], 7)).into(),
        );
        let messages = |values: &[(&str, &str)]| {
            let mut out = BytesMut::new();
            for (name, value) in values {
                write::parameter_status(&mut out, name.as_bytes(), value.as_bytes()).expect("short");
            }
            out
        };
        let mut from_server =
            messages(&[("TimeZone", "UTC"), (PARAMETER, "psql - 192.0.2.1:7"), (PARAMETER, "set since")]);
        name.hide(&mut from_server);
        assert_eq!(
            from_server,
            messages(&[("TimeZone", "UTC"), (PARAMETER, "psql"), (PARAMETER, "set since")])
        );
    }
}
