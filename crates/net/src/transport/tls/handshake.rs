//! From a connection to one of TLS.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use trunkline_tls::{Opened, Records};

use super::turn::HandshakeTurn;
use super::{Backlog, IN, SEALED_IN, TlsState, TlsStream, refused, with};
use crate::Transport;

impl TlsStream {
    /// Shakes hands over `socket`; `came` are bytes that were read from it already.
    ///
    /// # Errors
    /// What the kernel says, `UnexpectedEof`, or why TLS refuses (`InvalidData`), which the peer has been told.
    pub(in crate::transport) async fn shake_hands(
        socket: Transport,
        records: Records,
        came: &[u8],
    ) -> Result<Self, (io::Error, Transport)> {
        let state = TlsState {
            records,
            plain: Backlog::default(),
            sealed: Backlog::default(),
            owes: false,
            has_ended: false,
            has_closed: false,
        };
        let stream = Self { socket, state: RefCell::new(state) };
        match stream.finish_handshake(came).await {
            Ok(()) => Ok(stream),
            Err(error) => Err((error, stream.socket)),
        }
    }

    async fn finish_handshake(&self, came: &[u8]) -> io::Result<()> {
        let mut came = came.to_vec();
        loop {
            let opened = self.compute(&mut came).await;
            poll_fn(|cx| self.poll_drain(cx)).await?;
            if opened?.may_seal {
                return Ok(());
            }
            came = poll_fn(|cx| self.poll_flight(cx)).await?;
        }
    }

    /// Takes bytes of the peer: when it is this connection's turn, unless there is little to compute.
    async fn compute(&self, came: &mut [u8]) -> io::Result<Opened> {
        let turn = if self.state.borrow().records.is_costly(came) {
            Some(HandshakeTurn::take().await)
        } else {
            None
        };
        let (_none, opened) = self.open(came, &mut []);
        if let Some(turn) = turn {
            turn.end();
        }
        opened.map_err(|error| refused(&error))
    }

    /// Reads what there is.
    fn poll_flight(&self, cx: &Context<'_>) -> Poll<io::Result<Vec<u8>>> {
        with(&IN, SEALED_IN, |space| {
            Poll::Ready(match ready!(self.socket.poll_recv(cx, space))? {
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                count => Ok(space[..count].to_vec()),
            })
        })
    }
}
