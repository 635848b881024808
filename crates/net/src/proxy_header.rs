//! The PROXY protocol header: the client's address, as sent by the load balancer in front of the proxy.
//!
//! Versions 1 (a line of text) and 2 (binary), as HAProxy's `send-proxy` and `send-proxy-v2` write them. Only the
//! header's own bytes are taken from the socket; the startup packet behind it stays there.
//! Source: HAProxy, doc/proxy-protocol.txt, revision of 2020/03/05.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::AsyncReadExt;

use crate::Transport;

/// Longest header accepted, in bytes.
///
/// Addresses need at most 232; the rest is room for TLVs, such as a certificate's names. A sender may count on 536.
pub const PROXY_HEADER_BYTES_MAX: usize = 4096;

/// Longest line of version 1, its CRLF included. Source: section 2.1.
const LINE_BYTES_MAX: usize = 107;

/// First bytes of version 1.
const LINE_START: &[u8] = b"PROXY ";

/// First bytes of version 2. Source: section 2.2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family and protocol, length.
const FIXED_BYTES: usize = 16;

/// Why there is no header to believe. Each is the fault of the proxy in front, or of its configuration.
#[derive(Debug, thiserror::Error)]
pub enum ProxyHeaderError {
    /// The peer speaks something else.
    #[error("no PROXY protocol header from a peer that must send one")]
    Missing,
    /// It starts like a header but is malformed.
    #[error("malformed PROXY protocol header: {0}")]
    Malformed(&'static str),
    /// It announces more than [`PROXY_HEADER_BYTES_MAX`].
    #[error("PROXY protocol header of {length} bytes, more than {PROXY_HEADER_BYTES_MAX}")]
    TooLong {
        /// Bytes announced, the fixed part included.
        length: usize,
    },
    /// The peer closed before its header was whole, as bare TCP checks do.
    #[error("connection closed before its PROXY protocol header was whole")]
    Closed,
    /// The socket broke.
    #[error("connection broke before its PROXY protocol header was whole")]
    Broken(#[source] io::Error),
}

/// Reads the header that must come first on `stream`, and nothing behind it.
///
/// The client's address; `None` when the proxy speaks for itself (LOCAL, as in its health checks) or does not know
/// (UNKNOWN, a Unix socket): then the connection's own address holds. The caller bounds the time.
///
/// # Errors
/// See [`ProxyHeaderError`]; nothing should be answered then.
pub async fn read_proxy_header(stream: &mut Transport) -> Result<Option<SocketAddr>, ProxyHeaderError> {
    let mut buffer = vec![0; PROXY_HEADER_BYTES_MAX];
    let mut taken = 0;
    loop {
        // Looked at first: what follows the header is not ours to take.
        let seen = stream.peek(&mut buffer[taken..]).await.map_err(ProxyHeaderError::Broken)?;
        if seen == 0 {
            return Err(ProxyHeaderError::Closed);
        }
        let header = decode(&buffer[..taken + seen])?;
        let end = header.as_ref().map_or(taken + seen, |header| header.length);
        stream.read_exact(&mut buffer[taken..end]).await.map_err(ProxyHeaderError::Broken)?;
        taken = end;
        if let Some(header) = header {
            return Ok(header.client);
        }
    }
}

/// A whole header.
#[derive(Debug, PartialEq, Eq)]
struct Header {
    /// Its bytes, all of them.
    length: usize,
    client: Option<SocketAddr>,
}

/// The header at the start of `bytes`; `None` while they are too few to tell, in which case all of them belong to it.
fn decode(bytes: &[u8]) -> Result<Option<Header>, ProxyHeaderError> {
    if begins(bytes, SIGNATURE) {
        return decode_binary(bytes);
    }
    if begins(bytes, LINE_START) {
        return decode_line(bytes);
    }
    Err(ProxyHeaderError::Missing)
}

/// Whether one is the other's beginning.
fn begins(bytes: &[u8], expected: &[u8]) -> bool {
    let length = bytes.len().min(expected.len());
    bytes[..length] == expected[..length]
}

/// Version 2.
fn decode_binary(bytes: &[u8]) -> Result<Option<Header>, ProxyHeaderError> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED_BYTES>() else { return Ok(None) };
    let [.., version_command, family, high, low] = *fixed;
    let body_bytes = usize::from(u16::from_be_bytes([high, low]));
    let length = FIXED_BYTES + body_bytes;
    if version_command >> 4 != 2 {
        return Err(ProxyHeaderError::Malformed("its version is not 2"));
    }
    if length > PROXY_HEADER_BYTES_MAX {
        return Err(ProxyHeaderError::TooLong { length });
    }
    let Some(body) = rest.get(..body_bytes) else { return Ok(None) };
    let client = match version_command & 0x0f {
        // LOCAL: whatever else it says is to be skipped.
        0 => None,
        1 => source_address(family, body)?,
        _ => return Err(ProxyHeaderError::Malformed("its command is neither LOCAL nor PROXY")),
    };
    Ok(Some(Header { length, client }))
}

/// The source of version 2's address block. TLVs behind the block are skipped.
fn source_address(family: u8, body: &[u8]) -> Result<Option<SocketAddr>, ProxyHeaderError> {
    const SHORT: ProxyHeaderError = ProxyHeaderError::Malformed("its addresses are cut short");
    match family {
        // TCP over IPv4: source, destination, source port, destination port.
        0x11 => {
            let block = body.first_chunk::<12>().ok_or(SHORT)?;
            let [a, b, c, d, _, _, _, _, high, low, ..] = *block;
            let port = u16::from_be_bytes([high, low]);
            Ok(Some(SocketAddr::from((Ipv4Addr::new(a, b, c, d), port))))
        }
        // TCP over IPv6, in the same order.
        0x21 => {
            let block = body.first_chunk::<36>().ok_or(SHORT)?;
            let source: [u8; 16] = *block.first_chunk().expect("36 bytes begin with 16");
            let port = u16::from_be_bytes([block[32], block[33]]);
            // A dual-stack proxy writes IPv4 clients as ::ffff:a.b.c.d.
            Ok(Some(SocketAddr::from((IpAddr::from(source).to_canonical(), port))))
        }
        // Unspecified, a datagram protocol or a Unix socket: the connection's own address is the best there is.
        _ => Ok(None),
    }
}

/// Version 1: `PROXY TCP4 source destination source-port destination-port\r\n`.
fn decode_line(bytes: &[u8]) -> Result<Option<Header>, ProxyHeaderError> {
    const LONG: ProxyHeaderError = ProxyHeaderError::Malformed("its line is too long");
    let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else {
        // Its end may still come within the limit.
        return if bytes.len() < LINE_BYTES_MAX { Ok(None) } else { Err(LONG) };
    };
    let length = end + 2;
    if length > LINE_BYTES_MAX {
        return Err(LONG);
    }
    let line = std::str::from_utf8(&bytes[LINE_START.len()..end])
        .map_err(|_| ProxyHeaderError::Malformed("its line is not ASCII"))?;
    Ok(Some(Header { length, client: line_source(line)? }))
}

/// What version 1's line says behind `PROXY `.
fn line_source(line: &str) -> Result<Option<SocketAddr>, ProxyHeaderError> {
    let fields: Vec<&str> = line.split(' ').collect();
    let (source, destination) = match fields[..] {
        // Whatever follows UNKNOWN is to be skipped.
        ["UNKNOWN", ..] => return Ok(None),
        ["TCP4", source, destination, source_port, destination_port] => {
            (address::<Ipv4Addr>(source, source_port), address::<Ipv4Addr>(destination, destination_port))
        }
        ["TCP6", source, destination, source_port, destination_port] => {
            (address::<Ipv6Addr>(source, source_port), address::<Ipv6Addr>(destination, destination_port))
        }
        _ => return Err(ProxyHeaderError::Malformed("its line has not the fields it should")),
    };
    match (source, destination) {
        (Some(source), Some(_)) => Ok(Some(source)),
        _ => Err(ProxyHeaderError::Malformed("its line has an address or port that is none")),
    }
}

fn address<A: std::str::FromStr + Into<IpAddr>>(text: &str, port: &str) -> Option<SocketAddr> {
    // `parse` would take a sign.
    let port = port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok())??;
    let address: IpAddr = text.parse::<A>().ok()?.into();
    Some(SocketAddr::new(address.to_canonical(), port))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use trunkline_reactor::block_on;

    use super::*;
    use crate::memory;

    const STARTUP: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";

    fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).expect("test bodies are small").to_be_bytes();
        [SIGNATURE, &[0x20 | command, family][..], &length, body].concat()
    }

    fn tcp4() -> Vec<u8> {
        binary(1, 0x11, &[192, 0, 2, 7, 10, 0, 0, 1, 0xd4, 0x31, 0x15, 0x3a])
    }

    fn tcp6(source: Ipv6Addr) -> Vec<u8> {
        let ports = [0xd4, 0x31, 0x15, 0x3a];
        binary(1, 0x21, &[&source.octets()[..], &Ipv6Addr::LOCALHOST.octets(), &ports].concat())
    }

    fn client(bytes: &[u8]) -> Option<SocketAddr> {
        let header = decode(bytes).expect("it is a header").expect("it is whole");
        assert_eq!(header.length, bytes.len());
        header.client
    }

    fn socket(text: &str) -> Option<SocketAddr> {
        Some(text.parse().expect("a socket address"))
    }

    #[test]
    fn both_versions_tell_the_client() {
        assert_eq!(client(&tcp4()), socket("192.0.2.7:54321"));
        let source = "2001:db8::7".parse().expect("an address");
        assert_eq!(client(&tcp6(source)), socket("[2001:db8::7]:54321"));
        assert_eq!(client(b"PROXY TCP4 192.0.2.7 10.0.0.1 54321 5434\r\n"), socket("192.0.2.7:54321"));
        assert_eq!(client(b"PROXY TCP6 2001:db8::7 ::1 54321 5434\r\n"), socket("[2001:db8::7]:54321"));
    }

    #[test]
    fn an_ipv4_client_inside_ipv6_is_an_ipv4_client() {
        let mapped = Ipv4Addr::new(192, 0, 2, 7).to_ipv6_mapped();
        assert_eq!(client(&tcp6(mapped)), socket("192.0.2.7:54321"));
        assert_eq!(client(b"PROXY TCP6 ::ffff:192.0.2.7 ::1 54321 1\r\n"), socket("192.0.2.7:54321"));
    }

    #[test]
    fn a_proxy_that_speaks_for_itself_tells_no_client() {
        // As HAProxy's checks with `check-send-proxy` have it.
        assert_eq!(client(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"), None);
        assert_eq!(client(&binary(0, 0x11, &[1; 12])), None);
        assert_eq!(client(&binary(1, 0, &[])), None);
        assert_eq!(client(&binary(1, 0x31, &[b'/'; 216])), None);
        assert_eq!(client(&binary(1, 0x12, &[1; 12])), None);
        assert_eq!(client(b"PROXY UNKNOWN\r\n"), None);
        assert_eq!(client(b"PROXY UNKNOWN ffff::1 what ever it says\r\n"), None);
    }

    #[test]
    fn extensions_behind_the_addresses_are_skipped() {
        let body = [&[192, 0, 2, 7, 10, 0, 0, 1, 0xd4, 0x31, 0x15, 0x3a][..], &[4, 0, 3, 1, 2, 3]].concat();
        assert_eq!(client(&binary(1, 0x11, &body)), socket("192.0.2.7:54321"));
    }

    #[test]
    fn every_truncation_waits_for_more_and_what_follows_is_left() {
        let line = b"PROXY TCP4 192.0.2.7 10.0.0.1 54321 5434\r\n".to_vec();
        for header in [line, tcp4(), tcp6(Ipv6Addr::LOCALHOST), binary(0, 0, &[])] {
            for length in 1..header.len() {
                assert!(
                    decode(&header[..length]).expect("so far so good").is_none(),
                    "{length} of {header:?}"
                );
            }
            let all = [&header[..], STARTUP].concat();
            let decoded = decode(&all).expect("it is a header").expect("it is whole");
            assert_eq!(decoded.length, header.len());
        }
    }

    #[test]
    fn anything_else_is_refused_at_its_first_wrong_byte() {
        for bytes in [STARTUP, b"G", b"PR0", b"\r\n\r\n\0\r\nQUIX", b"proxy TCP4"] {
            assert!(matches!(decode(bytes), Err(ProxyHeaderError::Missing)), "{bytes:?}");
        }
    }

    #[test]
    fn headers_that_lie_are_refused() {
        let wrong_version = [SIGNATURE, &[0x11, 0x11, 0, 0][..]].concat();
        let wrong_command = binary(2, 0x11, &[1; 12]);
        let binaries = [wrong_version, wrong_command, binary(1, 0x11, &[1; 11]), binary(1, 0x21, &[1; 35])];
        let lines: [&[u8]; 9] = [
            b"PROXY \r\n",
            b"PROXY TCP4\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 54321\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 54321 1 2\r\n",
            b"PROXY TCP4 192.0.2.7  10.0.0.1 54321 1\r\n",
            b"PROXY TCP4 ::1 10.0.0.1 54321 1\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 65536 1\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 +5 1\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.\xff 5 1\r\n",
        ];
        for bytes in binaries.iter().map(Vec::as_slice).chain(lines) {
            assert!(matches!(decode(bytes), Err(ProxyHeaderError::Malformed(_))), "{bytes:?}");
        }
    }

    #[test]
    fn a_line_ends_within_its_limit() {
        let line = |length: usize| [b"PROXY UNKNOWN ", &vec![b'x'; length - 16][..], b"\r\n"].concat();
        assert_eq!(client(&line(LINE_BYTES_MAX)), None);
        assert!(decode(&line(LINE_BYTES_MAX + 1)).is_err());
        assert!(decode(&line(LINE_BYTES_MAX)[..LINE_BYTES_MAX - 1]).expect("its LF may come").is_none());
        assert!(decode(&line(LINE_BYTES_MAX + 1)[..LINE_BYTES_MAX]).is_err());
    }

    #[test]
    fn a_header_is_as_long_as_the_limit_at_most() {
        let body = vec![0; PROXY_HEADER_BYTES_MAX - FIXED_BYTES];
        assert_eq!(client(&binary(0, 0, &body)), None);
        // Refused by its length word alone.
        let longer = binary(0, 0, &[&body[..], &[0]].concat());
        assert!(matches!(decode(&longer[..FIXED_BYTES]), Err(ProxyHeaderError::TooLong { length: 4097 })));
    }

    async fn exchange(pieces: &[&[u8]]) -> (Result<Option<SocketAddr>, ProxyHeaderError>, Vec<u8>) {
        let (mut sender, stream) = memory::pair(PROXY_HEADER_BYTES_MAX);
        let mut stream = Transport::Memory(stream);
        let send = async {
            for piece in pieces {
                sender.write_all(piece).await.expect("the reader is there");
                tokio::task::yield_now().await;
            }
            drop(sender);
        };
        let read = async {
            let header = read_proxy_header(&mut stream).await;
            let mut rest = Vec::new();
            if header.is_ok() {
                stream.read_to_end(&mut rest).await.expect("the sender closes");
            }
            (header, rest)
        };
        tokio::join!(send, read).1
    }

    #[test]
    fn the_startup_packet_stays_in_the_socket() {
        let header = tcp4();
        let whole = [&header[..], STARTUP].concat();
        let pieces: Vec<&[u8]> = whole.chunks(1).collect();
        for pieces in [vec![&whole[..]], vec![&header, STARTUP], vec![&whole[..20], &whole[20..]], pieces] {
            let (client, rest) = block_on(exchange(&pieces)).expect("a thread of its own");
            assert_eq!(client.expect("it is a header"), socket("192.0.2.7:54321"));
            assert_eq!(rest, STARTUP);
        }
    }

    #[test]
    fn a_peer_that_leaves_early_is_told_apart() {
        for pieces in [&[][..], &[&SIGNATURE[..]]] {
            let (client, _) = block_on(exchange(pieces)).expect("a thread of its own");
            assert!(matches!(client, Err(ProxyHeaderError::Closed)));
        }
    }
}
