//! Prints the messages of a captured conversation: `messages crates/session/tests/captures/psql.cap`
//!
//! A capture is a list of chunks: who sent it (0 client, 1 server), its length in four bytes, and its bytes. Both directions
//! begin behind the login.

use std::error::Error;

use trunkline_codec::backend::{BackendTag, CommandComplete, ErrorFields, ReadyForQuery};
use trunkline_codec::frontend::{FrontendTag, Parse, Query};
use trunkline_codec::scan::{Piece, ScanPhase, Scanner};

/// Who sends.
#[derive(Clone, Copy)]
enum Sender {
    Client,
    Server,
}

/// One direction of the conversation.
struct Direction {
    sender: Sender,
    scanner: Scanner,
    /// Bytes that begin a message without completing it.
    kept: Vec<u8>,
}

impl Direction {
    fn new(sender: Sender) -> Self {
        let mut scanner = match sender {
            Sender::Client => Scanner::frontend(),
            Sender::Server => Scanner::backend(),
        };
        scanner.set_phase(ScanPhase::Normal);
        Direction { sender, scanner, kept: Vec::new() }
    }

    fn take_in(&mut self, chunk: &[u8]) -> Result<(), Box<dyn Error>> {
        self.kept.extend_from_slice(chunk);
        let mut at = 0;
        while let Some(piece) = self.scanner.next(&self.kept, &mut at)? {
            match (piece, self.sender) {
                (Piece::Message { tag, body }, Sender::Client) => {
                    println!("client  {}", of_client(tag, body)?)
                }
                (Piece::Message { tag, body }, Sender::Server) => {
                    println!("server  {}", of_server(tag, body)?)
                }
                (Piece::Start { tag, body_len, .. }, _) => {
                    println!("        {:?}, {body_len} bytes", char::from(tag))
                }
                // The rest of what was announced by its start.
                (Piece::More { .. }, _) => {}
            }
        }
        self.kept.drain(..at);
        Ok(())
    }
}

fn of_client(tag: u8, body: &[u8]) -> Result<String, Box<dyn Error>> {
    let tag = FrontendTag::from_byte(tag);
    Ok(match tag {
        FrontendTag::Query => format!("Query {}", shown(Query::parse(body)?.sql)),
        FrontendTag::Parse => format!("Parse {}", shown(Parse::parse(body)?.sql)),
        other => format!("{other:?}"),
    })
}

fn of_server(tag: u8, body: &[u8]) -> Result<String, Box<dyn Error>> {
    let tag = BackendTag::from_byte(tag);
    Ok(match tag {
        BackendTag::CommandComplete => {
            format!("CommandComplete {}", shown(CommandComplete::parse(body)?.tag))
        }
        BackendTag::ReadyForQuery => format!("ReadyForQuery {:?}", ReadyForQuery::parse(body)?.status),
        BackendTag::ErrorResponse | BackendTag::NoticeResponse => {
            format!("{tag:?} {}", shown(ErrorFields::new(body).message().unwrap_or_default()))
        }
        other => format!("{other:?}"),
    })
}

fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("expected the path of a capture")?;
    let capture = std::fs::read(path)?;
    let mut directions = [Direction::new(Sender::Client), Direction::new(Sender::Server)];
    let mut rest = capture.as_slice();
    while let Some((&[from, a, b, c, d], after)) = rest.split_first_chunk() {
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let (chunk, next) = after.split_at_checked(length).ok_or("the capture ends inside a chunk")?;
        let direction =
            directions.get_mut(usize::from(from)).ok_or("a chunk of neither client nor server")?;
        direction.take_in(chunk)?;
        rest = next;
    }
    Ok(())
}
