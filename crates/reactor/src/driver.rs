//! The readiness of sockets as epoll reports it, and the tasks that wait for it.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::task::{Context, Poll as Polled};
use std::time::Duration;

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use crate::waker_cell::WakerCell;

/// Most events per call of epoll_wait, and so most tasks that run before the sockets are polled again.
const EVENTS_MAX: usize = 256;

/// The token of the waker that other threads use; tokens of sources are below it.
const REMOTE_WAKER: Token = Token(usize::MAX);

/// The kernel's side of one thread.
#[derive(Debug)]
pub(crate) struct Driver {
    poll: RefCell<Poll>,
    events: RefCell<Events>,
    sources: RefCell<Slab<Rc<IoSource>>>,
    /// Generation counter: distinguishes sources that reuse the same slab index.
    made: Cell<u32>,
}

/// One descriptor as the driver sees it.
#[derive(Debug)]
struct IoSource {
    made: u32,
    ready: Cell<Ready>,
    /// What epoll is asked to report.
    asked: Cell<Interest>,
    reader: WakerCell,
    writer: WakerCell,
}

/// What a descriptor is ready for, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ready(u8);

impl Ready {
    const READ: u8 = 1;
    const WRITE: u8 = 2;
    /// The peer closed its sending side, or there is an error: reads end after the bytes still buffered.
    const READ_CLOSED: u8 = 4;
    /// The socket accepts no more bytes: a write returns the reason.
    const WRITE_CLOSED: u8 = 8;

    fn of(event: &Event) -> Self {
        let bit = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        Ready(
            bit(event.is_readable(), Self::READ)
                | bit(event.is_writable(), Self::WRITE)
                | bit(event.is_read_closed() || event.is_error(), Self::READ_CLOSED)
                | bit(event.is_write_closed() || event.is_error(), Self::WRITE_CLOSED),
        )
    }

    fn has(self, any: u8) -> bool {
        self.0 & any != 0
    }
}

/// A descriptor's place with the driver, given up when dropped. The kernel forgets the descriptor itself when it is
/// closed.
#[derive(Debug)]
pub(crate) struct Registration {
    driver: Rc<Driver>,
    source: Rc<IoSource>,
    key: usize,
}

impl Driver {
    /// # Errors
    /// What the kernel says.
    pub(crate) fn new() -> io::Result<(Self, mio::Waker)> {
        let poll = Poll::new()?;
        let waker = mio::Waker::new(poll.registry(), REMOTE_WAKER)?;
        let driver = Driver {
            poll: RefCell::new(poll),
            events: RefCell::new(Events::with_capacity(EVENTS_MAX)),
            sources: RefCell::default(),
            made: Cell::new(0),
        };
        Ok((driver, waker))
    }

    /// Registers `descriptor` with epoll. The readiness in `assumed` holds until the first event. Room that is assumed is asked
    /// about only once there is none: epoll would report it at once, for nobody.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn register(self: &Rc<Self>, descriptor: RawFd, assumed: Assumed) -> io::Result<Registration> {
        let made = self.made.get().wrapping_add(1);
        self.made.set(made);
        let (ready, asked) = match assumed {
            Assumed::Nothing => (Ready(0), BOTH_WAYS),
            Assumed::Room => (Ready(Ready::WRITE), Interest::READABLE),
            Assumed::All => (Ready(Ready::READ | Ready::WRITE), Interest::READABLE),
        };
        let source = Rc::new(IoSource {
            made,
            ready: Cell::new(ready),
            asked: Cell::new(asked),
            reader: WakerCell::default(),
            writer: WakerCell::default(),
        });
        let key = self.sources.borrow_mut().insert(Rc::clone(&source));
        let registration = Registration { driver: Rc::clone(self), source, key };
        let poll = self.poll.borrow();
        poll.registry().register(&mut SourceFd(&descriptor), token(key, made), asked)?;
        Ok(registration)
    }

    /// Polls epoll, with or without blocking, and wakes the waiting tasks. Returns `true` if another thread woke us.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn wait(&self, wait: Wait) -> io::Result<bool> {
        let timeout = match wait {
            Wait::ForEvents => None,
            Wait::Not => Some(Duration::ZERO),
        };
        let mut events = self.events.borrow_mut();
        match self.poll.borrow_mut().poll(&mut events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(false),
            Err(error) => return Err(error),
        }
        let mut is_woken_remotely = false;
        let sources = self.sources.borrow();
        for event in events.iter() {
            let token = event.token();
            if token == REMOTE_WAKER {
                is_woken_remotely = true;
                continue;
            }
            let (key, made) = (token.0 & KEY_MASK, token.0 >> KEY_BITS);
            // An earlier event of this batch may have removed this source, and its slab index may be in use again.
            if let Some(source) = sources.get(key).filter(|source| source.made as usize == made) {
                source.note(Ready::of(event));
            }
        }
        Ok(is_woken_remotely)
    }
}

/// A token has the slab index in its lower half and the generation in its upper half.
const KEY_BITS: u32 = usize::BITS / 2;
const KEY_MASK: usize = (1 << KEY_BITS) - 1;

fn token(key: usize, made: u32) -> Token {
    Token(key | (made as usize) << KEY_BITS)
}

const BOTH_WAYS: Interest = Interest::READABLE.add(Interest::WRITABLE);

/// How long to wait for the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    ForEvents,
    Not,
}

/// The readiness assumed for a descriptor before its first event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Assumed {
    Nothing,
    /// Just connected: the server waits for our first message.
    Room,
    /// Just accepted: the client has probably sent its first packet.
    All,
}

impl IoSource {
    #[inline]
    fn note(&self, ready: Ready) {
        let known = self.ready.get();
        self.ready.set(Ready(known.0 | ready.0));
        // A task that was woken and has not read or written since is not woken again.
        let ready = Ready(ready.0 & !known.0);
        if ready.has(Ready::READ | Ready::READ_CLOSED) {
            self.reader.wake();
        }
        // The waker is taken: every event reports room that is asked about, and a task that has written all its bytes needs no further wake-up.
        if ready.has(Ready::WRITE | Ready::WRITE_CLOSED)
            && let Some(waker) = self.writer.take()
        {
            waker.wake();
        }
    }

    fn forget(&self, bits: u8) {
        self.ready.set(Ready(self.ready.get().0 & !bits));
    }
}

impl Registration {
    /// Ready when there may be something to read, its end included; else the task is woken when there is.
    #[inline]
    pub(crate) fn poll_readable(&self, cx: &Context<'_>) -> Polled<()> {
        if self.may_read() {
            return Polled::Ready(());
        }
        self.source.reader.set(cx.waker());
        Polled::Pending
    }

    /// Ready when there may be room to write; else the task is woken when there is.
    #[inline]
    pub(crate) fn poll_writable(&self, cx: &Context<'_>) -> Polled<()> {
        if self.may_write() {
            return Polled::Ready(());
        }
        self.source.writer.set(cx.waker());
        Polled::Pending
    }

    /// Ready when the peer has closed its sending side; else the task is woken when there is anything to read.
    pub(crate) fn poll_read_closed(&self, cx: &Context<'_>) -> Polled<()> {
        if self.source.ready.get().has(Ready::READ_CLOSED) {
            return Polled::Ready(());
        }
        self.source.reader.set(cx.waker());
        Polled::Pending
    }

    #[inline]
    pub(crate) fn may_read(&self) -> bool {
        self.source.ready.get().has(Ready::READ | Ready::READ_CLOSED)
    }

    #[inline]
    pub(crate) fn has_reader(&self) -> bool {
        self.source.reader.is_set()
    }

    pub(crate) fn forget_reader(&self) {
        let _waker = self.source.reader.take();
    }

    /// This task is woken when there is something to read, without a read before.
    pub(crate) fn set_reader(&self, cx: &Context<'_>) {
        self.source.reader.set(cx.waker());
    }

    /// Takes the descriptor out of epoll, for another thread to register.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn deregister(self, descriptor: RawFd) -> io::Result<()> {
        self.driver.poll.borrow().registry().deregister(&mut SourceFd(&descriptor))
    }

    #[inline]
    pub(crate) fn may_write(&self) -> bool {
        self.source.ready.get().has(Ready::WRITE | Ready::WRITE_CLOSED)
    }

    /// A read brought less than it had room for: nothing more is there, unless it is the end.
    #[inline]
    pub(crate) fn has_read_all(&self) {
        self.source.forget(Ready::READ);
    }

    /// Rearms the epoll registration, which reports pending bytes again: cheaper than one more read that returns EAGAIN.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn ask_again(&self, descriptor: RawFd) -> io::Result<()> {
        self.ask_for(descriptor, self.source.asked.get())?;
        self.source.forget(Ready::READ);
        Ok(())
    }

    /// What is there already is reported, too.
    fn ask_for(&self, descriptor: RawFd, asked: Interest) -> io::Result<()> {
        let poll = self.driver.poll.borrow();
        let token = token(self.key, self.source.made);
        poll.registry().reregister(&mut SourceFd(&descriptor), token, asked)?;
        self.source.asked.set(asked);
        Ok(())
    }

    /// A read found nothing.
    pub(crate) fn would_block_to_read(&self) {
        self.source.forget(Ready::READ | Ready::READ_CLOSED);
    }

    /// A write found no room, or not enough.
    ///
    /// # Errors
    /// What the kernel says when it is first asked to report room.
    pub(crate) fn would_block_to_write(&self, descriptor: RawFd) -> io::Result<()> {
        if self.source.asked.get() != BOTH_WAYS {
            self.ask_for(descriptor, BOTH_WAYS)?;
        }
        self.source.forget(Ready::WRITE | Ready::WRITE_CLOSED);
        Ok(())
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // Its wakers go behind the borrow: one may be the last to hold what it wakes.
        let _source = self.driver.sources.borrow_mut().try_remove(self.key);
    }
}
