//! COPY from the client.

use super::Server;
use crate::wire;

/// The COPY that reads data.
#[derive(Clone)]
pub(super) struct CopyIn {
    pub(super) is_simple: bool,
    pub(super) pieces: usize,
    pub(super) fails_at: Option<usize>,
}

impl Server {
    pub(super) fn copy_message(&mut self, tag: u8) {
        let Some(copy) = &mut self.copy else { return };
        let is_simple = copy.is_simple;
        match tag {
            b'd' => {
                copy.pieces += 1;
                if copy.fails_at != Some(copy.pieces) {
                    return;
                }
            }
            b'H' | b'S' => return,
            b'c' => {
                self.answer(b'C', b"COPY 1\0");
                self.copy = None;
                if is_simple {
                    self.go_on();
                }
                return;
            }
            b'f' => {}
            _other => {
                self.error("08P01");
                self.die(&wire::report(b'E', "FATAL", "08P01"));
                return;
            }
        }
        self.copy = None;
        if is_simple {
            self.commands.clear();
            self.error("22P04");
            self.ready();
        } else {
            self.fail_extended();
        }
    }
}
