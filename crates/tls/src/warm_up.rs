//! The first handshake, made before anybody waits for it.

use crate::accept::{AcceptSettings, Acceptor, SELF_SIGNED};
use crate::connect::{ConnectSettings, ServerSslMode, ServerTls};
use crate::{Records, TlsError};

/// Flights of a handshake, both directions: three in TLS 1.3.
const FLIGHTS_MAX: usize = 8;

/// Shakes hands with itself. What the library of ciphers sets up once, and once for each thread, takes tens of
/// milliseconds, which the first client would wait for, and all the sessions of its thread.
///
/// Returns whether that has worked; if not, the first client will be told why.
pub fn warm_up() -> bool {
    shake_hands().is_some()
}

fn shake_hands() -> Option<()> {
    let accept = AcceptSettings { cert_file: Some(SELF_SIGNED.to_owned()), ..AcceptSettings::default() };
    let connect = ConnectSettings { sslmode: ServerSslMode::Require, ..ConnectSettings::default() };
    let mut server = Acceptor::load(&accept).ok()??.accept().ok()?;
    let mut client = ServerTls::load(&connect).ok()??.connect("localhost").ok()?;
    let (mut to_server, _) = open(&mut client, Vec::new()).ok()?;
    for _flight in 0..FLIGHTS_MAX {
        let (to_client, _) = open(&mut server, to_server).ok()?;
        let (more, is_done) = open(&mut client, to_client).ok()?;
        if is_done {
            return open(&mut server, more).ok().filter(|(_, is_done)| *is_done).map(drop);
        }
        to_server = more;
    }
    None
}

/// What an end sends for what it gets, and whether it is done.
fn open(end: &mut Records, mut came: Vec<u8>) -> Result<(Vec<u8>, bool), TlsError> {
    let mut out = Vec::new();
    let opened = end.open(&mut came, |_| {}, &mut out)?;
    Ok((out, opened.may_seal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_to_an_end() {
        assert!(warm_up());
    }
}
