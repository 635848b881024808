//! Whether a user exists is told by nothing that is said, and by no time that it takes: over TLS as without.

use std::io::Write as _;
use std::time::Instant;

use trunkline_codec::write;
use trunkline_tests::{Certificates, EndpointBuilder, Message};

use super::*;

/// A user, what is wrong with the login, and a name of the same length that nobody has.
const PAIRS: [[&str; 2]; 3] =
    [["app", "apq"], ["nologin_user", "nologin_uses"], ["expired_user", "expired_uses"]];
/// Tries of which the median is taken.
const TRIES: usize = 60;
/// The same where each derives keys from a password, thousands of times slower.
const TRIES_WITH_KEYS: usize = 15;
/// How many times as long one median may be as the other on a busy machine; without the work for a user who does not exist it
/// is tens of times.
const FACTOR: u32 = 4;

/// Clients may use TLS; no failure slows the next login down.
fn for_guesses() -> EndpointBuilder {
    let [certificate, key] = Certificates::shared().endpoint().map(|path| format!("{path:?}"));
    Endpoint::over(shared_cluster())
        .auth(Auth::Verify)
        .key("client_tls.cert_file", &certificate)
        .key("client_tls.key_file", &key)
        .key("auth.failures_max", "0")
}

#[derive(Clone, Copy, Debug)]
enum Leg {
    Plain,
    Tls,
}

impl Leg {
    /// A connection on which no login has begun.
    fn connect(self, port: u16) -> Wire {
        match self {
            Leg::Plain => Wire::connect_plain(port),
            Leg::Tls => Wire::connect_sealed(port),
        }
    }
}

/// What a login was told, and how long the endpoint took to say it.
#[derive(Default)]
struct Told {
    messages: Vec<Message>,
    took: Duration,
}

impl Told {
    /// Sends `bytes`, and notes the answer.
    fn ask(&mut self, wire: &mut Wire, bytes: &[u8]) -> &[u8] {
        let began = Instant::now();
        wire.stream.write_all(bytes).unwrap();
        let message = wire.read_message().unwrap();
        self.took += began.elapsed();
        self.messages.push(message);
        &self.messages.last().unwrap().body
    }

    /// What is the same for all users: each message, without what is random and with the name taken out.
    fn shown(&self, user: &str) -> Vec<(u8, usize, String)> {
        let shown = self.messages.iter().map(|message| {
            let text = String::from_utf8_lossy(&message.body).replace(user, "<user>");
            let random = ["r=", "s="].iter().any(|begin| text.contains(begin));
            (
                message.tag,
                message.body.len(),
                if random { text[text.find(",i=").unwrap()..].to_owned() } else { text },
            )
        });
        shown.collect()
    }
}

/// A login with a wrong proof, which costs this side nothing to make.
fn by_scram(wire: &mut Wire, user: &str) -> Told {
    let mut told = Told::default();
    told.ask(wire, &Login::of(user, "").packet());
    let mut out = bytes::BytesMut::new();
    write::sasl_initial_response(&mut out, b"SCRAM-SHA-256", Some(b"n,,n=,r=nonce")).unwrap();
    let challenge = told.ask(wire, &out);
    let challenge = String::from_utf8_lossy(&challenge[4..]).into_owned();
    let nonce = challenge.split(',').next().unwrap();
    let proof = format!("c=biws,{nonce},p={}=", "A".repeat(43));
    out.clear();
    write::sasl_response(&mut out, proof.as_bytes()).unwrap();
    told.ask(wire, &out);
    assert!(wire.read_message().is_err(), "nothing follows");
    told
}

/// A login with a wrong password.
fn by_password(wire: &mut Wire, user: &str) -> Told {
    let mut told = Told::default();
    told.ask(wire, &Login::of(user, "").packet());
    let mut out = bytes::BytesMut::new();
    write::password(&mut out, b"guessed").unwrap();
    told.ask(wire, &out);
    assert!(wire.read_message().is_err(), "nothing follows");
    told
}

fn median(mut took: Vec<Duration>) -> Duration {
    took.sort_unstable();
    took[took.len() / 2]
}

/// Both of a pair are told the same in the same time, in tries that take turns.
#[track_caller]
fn assert_alike(endpoint: &Endpoint, leg: Leg, tries: usize, log_in: fn(&mut Wire, &str) -> Told) {
    for pair in PAIRS {
        let mut took = [Vec::new(), Vec::new()];
        for _ in 0..tries {
            let told = pair.map(|user| log_in(&mut leg.connect(endpoint.reads()), user));
            let [known, unknown] = [0, 1].map(|at| told[at].shown(pair[at]));
            assert_eq!(known, unknown, "{leg:?} {pair:?}");
            assert!(known.last().unwrap().2.contains("password authentication failed"), "{known:?}");
            took.iter_mut().zip(told).for_each(|(took, told)| took.push(told.took));
        }
        let [known, unknown] = took.map(median);
        let _unseen = writeln!(std::io::stderr(), "    {leg:?} {pair:?}: {known:?} and {unknown:?}");
        assert!(
            known < unknown * FACTOR && unknown < known * FACTOR,
            "{leg:?}: {} is refused after {known:?}, {} after {unknown:?}",
            pair[0],
            pair[1]
        );
    }
}

#[test]
fn an_unknown_user_is_refused_in_the_words_and_the_time_of_a_known_one() {
    // With secrets that are looked up once, and at each login.
    for cache_ttl in ["1h", "0"] {
        let endpoint = for_guesses().key("auth.cache_ttl", &format!("{cache_ttl:?}")).start();
        for leg in [Leg::Plain, Leg::Tls] {
            assert_alike(&endpoint, leg, TRIES, by_scram);
        }
    }
}

#[test]
fn an_unknown_user_who_gives_a_password_is_refused_in_the_words_and_the_time_of_a_known_one() {
    let rules = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(rules.path(), "host all all all password\n").unwrap();
    let endpoint = for_guesses().key("auth.hba_file", &format!("{:?}", rules.path())).start();
    // Without TLS nobody is asked for a password.
    assert_alike(&endpoint, Leg::Tls, TRIES_WITH_KEYS, by_password);
}
