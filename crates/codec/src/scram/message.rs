//! The four messages of an exchange, as read from a peer.
//!
//! Every reader is total: each step takes its attribute off the front of what is left, or fails.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::keys::KeyBytes;
use super::verifier::parse_iterations;
use super::{ScramError, check_length};

use ScramError::Malformed;

/// What a client says about channel binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BindingFlag {
    /// `n`: it cannot.
    Unsupported,
    /// `y`: it could, but thinks the server cannot.
    Unused,
    /// `p=tls-server-end-point`: it does.
    TlsServerEndPoint,
}

impl BindingFlag {
    /// The header that begins a client's first message and comes back, in base64, in its last.
    pub(super) fn gs2_header(self) -> &'static str {
        match self {
            Self::Unsupported => "n,,",
            Self::Unused => "y,,",
            Self::TlsServerEndPoint => "p=tls-server-end-point,,",
        }
    }
}

/// A client's first message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClientFirst<'a> {
    pub(super) flag: BindingFlag,
    /// The message without its header, which the proof covers.
    pub(super) bare: &'a str,
    pub(super) nonce: &'a str,
}

impl<'a> ClientFirst<'a> {
    pub(super) fn parse(message: &'a [u8]) -> Result<Self, ScramError> {
        let text = text(message)?;
        let (flag, rest) =
            text.split_once(',').ok_or(Malformed("no comma after the channel-binding flag"))?;
        let flag = match flag {
            "n" => BindingFlag::Unsupported,
            "y" => BindingFlag::Unused,
            "p=tls-server-end-point" => BindingFlag::TlsServerEndPoint,
            _ if flag.starts_with("p=") => return Err(Malformed("unsupported SCRAM channel-binding type")),
            _ => return Err(Malformed("unexpected channel-binding flag")),
        };
        if rest.starts_with("a=") {
            return Err(ScramError::NotSupported(
                "client uses authorization identity, but it is not supported",
            ));
        }
        let bare = rest.strip_prefix(',').ok_or(Malformed("unexpected attribute before the user name"))?;
        refuse_mandatory_extension(bare)?;
        let mut rest = Some(bare);
        // The user is the one of the startup packet, whatever this says.
        take(&mut rest, "n=")?;
        let nonce = checked_nonce(take(&mut rest, "r=")?)?;
        while rest.is_some() {
            take_any(&mut rest)?;
        }
        Ok(Self { flag, bare, nonce })
    }
}

/// A server's first message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ServerFirst<'a> {
    /// The client's nonce and more.
    pub(super) nonce: &'a str,
    pub(super) salt: Vec<u8>,
    pub(super) iterations: u32,
}

impl<'a> ServerFirst<'a> {
    pub(super) fn parse(message: &'a [u8]) -> Result<Self, ScramError> {
        let text = text(message)?;
        refuse_mandatory_extension(text)?;
        let mut rest = Some(text);
        let nonce = checked_nonce(take(&mut rest, "r=")?)?;
        let salt = BASE64.decode(take(&mut rest, "s=")?).map_err(|_| Malformed("invalid salt"))?;
        let iterations = take(&mut rest, "i=")?;
        let iterations =
            parse_iterations(iterations.as_bytes()).ok_or(Malformed("invalid iteration count"))?;
        if rest.is_some() {
            return Err(Malformed("garbage at end of server-first-message"));
        }
        Ok(Self { nonce, salt, iterations })
    }
}

/// A client's last message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClientFinal<'a> {
    /// The channel binding, in base64.
    pub(super) binding: &'a str,
    pub(super) nonce: &'a str,
    pub(super) proof: KeyBytes,
    /// The message up to the comma before the proof, which the proof covers.
    pub(super) without_proof: &'a str,
}

impl<'a> ClientFinal<'a> {
    pub(super) fn parse(message: &'a [u8]) -> Result<Self, ScramError> {
        let text = text(message)?;
        let mut rest = Some(text);
        let binding = take(&mut rest, "c=")?;
        let nonce = take(&mut rest, "r=")?;
        // Extensions may come before the proof; they are covered by it and otherwise ignored.
        let (proof, without_proof) = loop {
            let left = rest.map_or(0, str::len);
            let (name, value) = take_any(&mut rest)?;
            if name == b'p' {
                break (value, &text[..text.len() - left - 1]);
            }
        };
        if rest.is_some() {
            return Err(Malformed("garbage found at the end of client-final-message"));
        }
        let proof = decode_key(proof).ok_or(Malformed("malformed proof in client-final-message"))?;
        Ok(Self { binding, nonce, proof, without_proof })
    }
}

/// A server's last message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ServerFinal {
    pub(super) signature: KeyBytes,
}

impl ServerFinal {
    pub(super) fn parse(message: &[u8]) -> Result<Self, ScramError> {
        let text = text(message)?;
        if text.starts_with("e=") {
            return Err(ScramError::RefusedByServer);
        }
        let mut rest = Some(text);
        let signature = take(&mut rest, "v=")?;
        if rest.is_some() {
            return Err(Malformed("garbage at end of server-final-message"));
        }
        let signature = decode_key(signature).ok_or(Malformed("invalid server signature"))?;
        Ok(Self { signature })
    }
}

fn text(message: &[u8]) -> Result<&str, ScramError> {
    check_length(message)?;
    let text = std::str::from_utf8(message).map_err(|_| Malformed("not UTF-8"))?;
    match text.contains('\0') {
        true => Err(Malformed("length does not match its content")),
        false if text.is_empty() => Err(Malformed("the message is empty")),
        false => Ok(text),
    }
}

/// Takes the attribute off the front of `rest` and returns its name and value. `rest` is `None`
/// when no comma is left.
fn take_any<'a>(rest: &mut Option<&'a str>) -> Result<(u8, &'a str), ScramError> {
    let text = rest.ok_or(Malformed("attribute expected, but none is left"))?;
    let (attribute, after) = match text.split_once(',') {
        Some((attribute, after)) => (attribute, Some(after)),
        None => (text, None),
    };
    let [name, b'=', ..] = attribute.as_bytes() else {
        return Err(Malformed("attribute expected, but found something else"));
    };
    if !name.is_ascii_alphabetic() {
        return Err(Malformed("attribute with an invalid name"));
    }
    *rest = after;
    Ok((*name, &attribute[2..]))
}

/// The same, for the one attribute that may come here, named with its equals sign.
fn take<'a>(rest: &mut Option<&'a str>, name: &str) -> Result<&'a str, ScramError> {
    let is_next = rest.is_some_and(|text| text.starts_with(name));
    if !is_next {
        return Err(Malformed("a mandatory attribute is missing"));
    }
    take_any(rest).map(|(_, value)| value)
}

fn refuse_mandatory_extension(text: &str) -> Result<(), ScramError> {
    if text.starts_with("m=") {
        return Err(ScramError::NotSupported("peer requires an unsupported SCRAM extension"));
    }
    Ok(())
}

/// A nonce is printable and not empty.
fn checked_nonce(nonce: &str) -> Result<&str, ScramError> {
    if nonce.is_empty() || !nonce.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Malformed("non-printable characters in SCRAM nonce"));
    }
    Ok(nonce)
}

fn decode_key(text: &str) -> Option<KeyBytes> {
    BASE64.decode(text).ok()?.try_into().ok()
}
