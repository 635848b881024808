//! What of a server's offer of SASL mechanisms is relayed, and which answers to it cannot be.
//!
//! A login that is bound to one TLS connection (SCRAM-SHA-256-PLUS) is not valid on another: the client's ends here, and
//! the server's begins here. So this mechanism is never relayed. A client that could have bound its login says so
//! (`y`), and a server that has offered it takes that for an attack, rightly.

use bytes::{Bytes, BytesMut};
use trunkline_codec::auth::{Authentication, SCRAM_SHA_256_PLUS, SaslInitialResponse};
use trunkline_codec::write;

use crate::client::messages::RawMessage;
use crate::errors::Refusal;
use crate::server::login::{LoginError, parse_authentication};

/// A server's challenge as the client gets it.
#[derive(Debug)]
pub(super) struct RelayedChallenge {
    pub(super) message: Bytes,
    pub(super) answer: AnswerWatch,
}

/// Which of the client's messages has to be looked at before the server gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnswerWatch {
    /// None: nothing was held back.
    Off,
    /// Its choice of a mechanism.
    Mechanism,
    /// Its first message, which it left for the next round.
    First,
}

impl RelayedChallenge {
    /// Of what the server sent. An offer that has nothing left of it is refused.
    pub(super) fn of(message: RawMessage<'_>) -> Result<Result<Self, Refusal>, LoginError> {
        let offered = match parse_authentication(message)? {
            Authentication::Sasl(offered) if offered.contains(SCRAM_SHA_256_PLUS) => offered,
            _ => {
                let message = Bytes::copy_from_slice(message.bytes);
                return Ok(Ok(RelayedChallenge { message, answer: AnswerWatch::Off }));
            }
        };
        let wrong = |_| LoginError::Exchange("mechanisms whose names are not text".to_owned());
        let mut names = Vec::new();
        for name in offered.iter().filter(|name| *name != SCRAM_SHA_256_PLUS.as_bytes()) {
            names.push(std::str::from_utf8(name).map_err(wrong)?);
        }
        if names.is_empty() {
            return Ok(Err(Refusal::BoundTwice));
        }
        let mut out = BytesMut::new();
        write::authentication_sasl(&mut out, &names)
            .map_err(|error| LoginError::Exchange(error.to_string()))?;
        let (message, answer) = (out.freeze(), AnswerWatch::Mechanism);
        Ok(Ok(RelayedChallenge { message, answer }))
    }
}

impl AnswerWatch {
    /// Looks at a message of the client. What is malformed is for the server to refuse.
    pub(super) fn look_at(&mut self, message: RawMessage<'_>) -> Result<(), Refusal> {
        let first = match std::mem::replace(self, AnswerWatch::Off) {
            AnswerWatch::Off => return Ok(()),
            AnswerWatch::First => Some(message.body()),
            AnswerWatch::Mechanism => match SaslInitialResponse::parse(message.body()) {
                Ok(response) if response.data.is_none() => {
                    *self = AnswerWatch::First;
                    return Ok(());
                }
                Ok(response) => response.data,
                Err(_) => None,
            },
        };
        match first.is_some_and(|first| first.starts_with(b"y,")) {
            true => Err(Refusal::BoundTwice),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(names: &[&str]) -> Result<Result<RelayedChallenge, Refusal>, LoginError> {
        let mut out = BytesMut::new();
        write::authentication_sasl(&mut out, names).expect("it is short");
        RelayedChallenge::of(RawMessage { bytes: &out })
    }

    fn looked_at(watch: &mut AnswerWatch, body: &[u8]) -> Result<(), Refusal> {
        watch.look_at(RawMessage { bytes: &[&b"p\0\0\0\0"[..], body].concat() })
    }

    #[test]
    fn a_binding_is_not_relayed_and_other_offers_are_as_they_came() {
        let relayed = offer(&["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]).expect("valid").expect("some are left");
        assert!(relayed.message.ends_with(b"\0\0\0\x0aSCRAM-SHA-256\0\0"), "{:?}", relayed.message);
        assert_eq!(relayed.answer, AnswerWatch::Mechanism);
        let relayed = offer(&["SCRAM-SHA-256", "OTHER"]).expect("valid").expect("all are left");
        assert!(relayed.message.ends_with(b"SCRAM-SHA-256\0OTHER\0\0"));
        assert_eq!(relayed.answer, AnswerWatch::Off);
        assert!(matches!(offer(&["SCRAM-SHA-256-PLUS"]), Ok(Err(Refusal::BoundTwice))));
        let cleartext = [&b"R\0\0\0\x08\0\0\0\x03"[..]].concat();
        let relayed = RelayedChallenge::of(RawMessage { bytes: &cleartext }).expect("valid").expect("it is");
        assert_eq!((&relayed.message[..], relayed.answer), (&cleartext[..], AnswerWatch::Off));
    }

    #[test]
    fn a_client_that_could_bind_its_login_is_refused_and_one_that_cannot_is_not() {
        for (first, outcome) in [
            (&b"n,,n=,r=abc"[..], Ok(())),
            (b"y,,n=,r=abc", Err(Refusal::BoundTwice)),
            (b"p=tls-server-end-point,,n=,r=abc", Ok(())),
            (b"", Ok(())),
        ] {
            let length = u32::try_from(first.len()).expect("short").to_be_bytes();
            let at_once = [b"SCRAM-SHA-256\0", &length[..], first].concat();
            let mut watch = AnswerWatch::Mechanism;
            assert_eq!(looked_at(&mut watch, &at_once), outcome, "{first:?}");
            let mut watch = AnswerWatch::Mechanism;
            assert_eq!(looked_at(&mut watch, b"SCRAM-SHA-256\0\xff\xff\xff\xff"), Ok(()));
            assert_eq!(looked_at(&mut watch, first), outcome, "{first:?}");
            assert_eq!(looked_at(&mut watch, b"y,"), Ok(()), "a later message");
            let mut watch = AnswerWatch::Off;
            assert_eq!(looked_at(&mut watch, &at_once), Ok(()));
        }
        assert_eq!(looked_at(&mut AnswerWatch::Mechanism, b"no response"), Ok(()), "the server says it");
    }
}
