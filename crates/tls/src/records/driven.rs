//! How rustls is driven, on both sides alike: it is asked until it has nothing left to do.

use rustls::Error;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus};

use super::{MESSAGE_EXTRA_MAX, Opened, TlsError};

/// Types of records that are no alert, and that an alert can be behind. Source: RFC 8446, 5.1.
const CHANGE_CIPHER_SPEC: u8 = 20;
const HANDSHAKE: u8 = 22;

/// Both sides, which rustls drives alike.
pub(super) trait End {
    type Data;

    fn process<'c, 'i>(&'c mut self, sealed: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl End for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, sealed: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(sealed)
    }
}

impl End for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, sealed: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(sealed)
    }
}

/// Opens records; returns how many bytes at the front are done with.
///
/// rustls is asked until it has nothing left to do. Once settled, it is not asked again when the last byte was plaintext: the
/// answer to a new key goes with what is sealed next. Source: RFC 8446, 4.6.3.
pub(super) fn open(
    end: &mut impl End,
    sealed: &mut [u8],
    is_settled: bool,
    mut plain: impl FnMut(&[u8]),
    out: &mut Vec<u8>,
) -> (usize, Result<Opened, TlsError>) {
    let mut opened = Opened::default();
    let mut done = 0;
    loop {
        let UnbufferedStatus { discard, state } = end.process(&mut sealed[done..]);
        let step = match state {
            Ok(state) => step(state, &mut opened, &mut plain, out),
            Err(error) => Err(TlsError(error)),
        };
        done += discard;
        match step {
            Ok(RecordStep::Plain) if is_settled && done == sealed.len() => {
                opened.may_seal = true;
                return (done, Ok(opened));
            }
            Ok(RecordStep::More | RecordStep::Plain) => {}
            Ok(RecordStep::Over) => return (done, Ok(opened)),
            Err(error) => {
                last_words(end, &mut sealed[done..], out);
                return (done, Err(error));
            }
        }
    }
}

enum RecordStep {
    More,
    /// More, behind plaintext.
    Plain,
    Over,
}

fn step<D>(
    state: ConnectionState<'_, '_, D>,
    opened: &mut Opened,
    plain: &mut impl FnMut(&[u8]),
    out: &mut Vec<u8>,
) -> Result<RecordStep, TlsError> {
    match state {
        ConnectionState::ReadTraffic(mut records) => {
            while let Some(record) = records.next_record() {
                plain(record?.payload);
            }
            return Ok(RecordStep::Plain);
        }
        ConnectionState::EncodeTlsData(message) => encode(message, out),
        ConnectionState::TransmitTlsData(sent) => sent.done(),
        ConnectionState::PeerClosed => opened.is_closed = true,
        ConnectionState::WriteTraffic(_) => {
            opened.may_seal = true;
            return Ok(RecordStep::Over);
        }
        ConnectionState::Closed => {
            opened.is_closed = true;
            return Ok(RecordStep::Over);
        }
        ConnectionState::BlockedHandshake => return Ok(RecordStep::Over),
        // Early data is not asked for.
        _other => return Err(TlsError(Error::General("early data".into()))),
    }
    Ok(RecordStep::More)
}

/// The alert that tells the peer of an error, behind what it needs to read it, such as a ServerHello. rustls has them
/// ready, and looks at no bytes before they are taken; asked once more, it would read them again.
pub(super) fn last_words(end: &mut impl End, sealed: &mut [u8], out: &mut Vec<u8>) {
    while let Ok(ConnectionState::EncodeTlsData(message)) = end.process(sealed).state {
        let begin = out.len();
        encode(message, out);
        if !matches!(out.get(begin), Some(&(CHANGE_CIPHER_SPEC | HANDSHAKE))) {
            return;
        }
    }
}

fn encode<D>(mut message: EncodeTlsData<'_, D>, out: &mut Vec<u8>) {
    let begin = out.len();
    let mut room = MESSAGE_EXTRA_MAX;
    loop {
        out.resize(begin + room, 0);
        match message.encode(&mut out[begin..]) {
            Ok(written) => return out.truncate(begin + written),
            Err(EncodeError::InsufficientSize(more)) => room = more.required_size,
            Err(EncodeError::AlreadyEncoded) => return out.truncate(begin),
        }
    }
}

pub(super) fn seal(
    end: &mut impl End,
    rest: &mut [u8],
    plain: &[u8],
    space: &mut [u8],
) -> Result<usize, TlsError> {
    let mut written = 0;
    loop {
        match end.process(rest).state.map_err(TlsError)? {
            ConnectionState::WriteTraffic(mut traffic) => {
                return match traffic.encrypt(plain, &mut space[written..]) {
                    Ok(more) => Ok(written + more),
                    Err(EncryptError::InsufficientSize(_)) => Err(TlsError(Error::General("no room".into()))),
                    Err(EncryptError::EncryptExhausted) => Err(TlsError(Error::EncryptError)),
                };
            }
            ConnectionState::EncodeTlsData(mut message) => {
                written += message
                    .encode(&mut space[written..])
                    .map_err(|error| TlsError(Error::General(error.to_string())))?;
            }
            ConnectionState::TransmitTlsData(sent) => sent.done(),
            // Edge-triggered: the peer's goodbye was told when it was opened.
            ConnectionState::PeerClosed => {}
            _none_of_these => return Err(TlsError(Error::HandshakeNotComplete)),
        }
    }
}

pub(super) fn close(end: &mut impl End, rest: &mut [u8], space: &mut [u8]) -> usize {
    match end.process(rest).state {
        Ok(ConnectionState::WriteTraffic(mut traffic)) => traffic.queue_close_notify(space).unwrap_or(0),
        // It is broken, or not yet begun.
        Ok(_) | Err(_) => 0,
    }
}
