//! A name server for tests, whose answers change as the test says.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{CNAME, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

/// Longest question that is read, in bytes.
const QUESTION_BYTES_MAX: usize = 1232;

/// What a name answers.
#[derive(Clone, Debug)]
enum Zone {
    /// Records, each with its time to live in seconds. Those of other types are not there.
    Records(Vec<(u32, RData)>),
    /// This code.
    Code(ResponseCode),
    /// Nothing at all.
    Silence,
}

/// A name server on the loopback. It ends when it is dropped.
#[derive(Debug)]
pub struct FakeDns {
    address: SocketAddr,
    state: Arc<Mutex<FakeState>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct FakeState {
    names: HashMap<String, Zone>,
    asked: HashMap<String, usize>,
    has_ended: bool,
}

impl FakeDns {
    /// Starts one that knows no name.
    ///
    /// # Errors
    /// There is no socket.
    pub fn start() -> std::io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let (address, state) = (socket.local_addr()?, Arc::new(Mutex::new(FakeState::default())));
        let own = Arc::clone(&state);
        let thread = std::thread::spawn(move || answer_all(&socket, &own));
        Ok(Self { address, state, thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The name has these addresses and no others.
    pub fn addresses(&self, name: &str, ttl: u32, addresses: &[IpAddr]) {
        let record = |address: &IpAddr| (ttl, RData::from(*address));
        self.put(name, Zone::Records(addresses.iter().map(record).collect()));
    }

    /// The name is another's.
    ///
    /// # Panics
    /// When `target` is no name.
    pub fn alias(&self, name: &str, target: &str) {
        self.put(name, Zone::Records(vec![(1, RData::CNAME(CNAME(full(target))))]));
    }

    /// The name has SRV records: priority, weight, port, target.
    ///
    /// # Panics
    /// When a target is no name.
    pub fn services(&self, name: &str, ttl: u32, records: &[(u16, u16, u16, &str)]) {
        let record = |(priority, weight, port, target): &(u16, u16, u16, &str)| {
            (ttl, RData::SRV(SRV::new(*priority, *weight, *port, full(target))))
        };
        self.put(name, Zone::Records(records.iter().map(record).collect()));
    }

    /// Questions for the name fail with SERVFAIL.
    pub fn fails(&self, name: &str) {
        self.put(name, Zone::Code(ResponseCode::ServFail));
    }

    /// Questions for the name are not answered.
    pub fn is_silent(&self, name: &str) {
        self.put(name, Zone::Silence);
    }

    /// There is no such name.
    pub fn forget(&self, name: &str) {
        self.state().names.remove(&key(&full(name)));
    }

    /// How often the name was asked for.
    #[must_use]
    pub fn asked(&self, name: &str) -> usize {
        self.state().asked.get(&key(&full(name))).copied().unwrap_or_default()
    }

    fn put(&self, name: &str, zone: Zone) {
        self.state().names.insert(key(&full(name)), zone);
    }

    fn state(&self) -> MutexGuard<'_, FakeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FakeDns {
    fn drop(&mut self) {
        self.state().has_ended = true;
        // Any datagram wakes it.
        let woken = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|socket| socket.send_to(&[0], self.address))
            .is_ok();
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            // It does not panic: and if it did, the test has failed already.
            let _panicked = thread.join().is_err();
        }
    }
}

fn full(name: &str) -> Name {
    Name::from_ascii(format!("{}.", name.trim_end_matches('.'))).expect("a test writes names")
}

fn key(name: &Name) -> String {
    name.to_lowercase().to_ascii()
}

fn answer_all(socket: &UdpSocket, state: &Mutex<FakeState>) {
    let mut buffer = [0; QUESTION_BYTES_MAX];
    loop {
        let received = socket.recv_from(&mut buffer);
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.has_ended {
            return;
        }
        let Ok((length, client)) = received else { return };
        let answer = buffer.get(..length).and_then(|question| answer(question, &mut state));
        if let Some(answer) = answer {
            // A client that has gone needs none.
            let _has_gone = socket.send_to(&answer, client).is_err();
        }
    }
}

fn answer(question: &[u8], state: &mut FakeState) -> Option<Vec<u8>> {
    let question = Message::from_vec(question).ok()?;
    let query = question.queries.first()?.clone();
    let name = key(query.name());
    *state.asked.entry(name.clone()).or_default() += 1;
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.metadata.recursion_available = true;
    match state.names.get(&name) {
        None => answer.metadata.response_code = ResponseCode::NXDomain,
        Some(Zone::Silence) => return None,
        Some(Zone::Code(code)) => answer.metadata.response_code = *code,
        Some(Zone::Records(records)) => {
            let is_asked_for = |data: &RData| {
                data.record_type() == query.query_type() || data.record_type() == RecordType::CNAME
            };
            let records = records.iter().filter(|(_, data)| is_asked_for(data));
            answer.add_answers(
                records.map(|(ttl, data)| Record::from_rdata(query.name().clone(), *ttl, data.clone())),
            );
        }
    }
    answer.add_query(query);
    answer.to_vec().ok()
}
