//! Microseconds of a SCRAM login: what the proxy computes as a server, and as a client with a kept key.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use trunkline_codec::scram::{ChannelBinding, ClientExchange, Credentials, ServerExchange, Verifier};

const PASSWORD: &[u8] = b"correct horse battery staple";
/// PostgreSQL's default since version 10.
const ITERATIONS: u32 = 4096;

fn scram(c: &mut Criterion) {
    let verifier = Verifier::from_password(PASSWORD, b"0123456789abcdef", ITERATIONS).expect("sound input");
    let mut group = c.benchmark_group("scram");
    group.bench_function("verifier_from_password", |b| {
        b.iter(|| Verifier::from_password(black_box(PASSWORD), b"0123456789abcdef", ITERATIONS));
    });
    group.bench_function("server_side_of_a_login", |b| {
        b.iter_batched(
            || client_messages(&verifier),
            |(first, last)| {
                let mut server =
                    ServerExchange::new(verifier.clone(), "server-nonce", ChannelBinding::Unsupported);
                server.handle_client_first(&first).expect("a sound message");
                server.handle_client_final(&last).expect("the right password")
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// What a client with the password sends in an exchange with the nonces of this bench.
fn client_messages(verifier: &Verifier) -> (Vec<u8>, Vec<u8>) {
    let mut server = ServerExchange::new(verifier.clone(), "server-nonce", ChannelBinding::Unsupported);
    let credentials = Credentials::Password(PASSWORD.to_vec().into());
    let mut client = ClientExchange::new(credentials, "client-nonce", ChannelBinding::Unsupported);
    let first = client.client_first().expect("a sound nonce");
    let answer = server.handle_client_first(&first).expect("a sound message");
    let last = client.handle_server_first(&answer).expect("a sound message");
    (first, last)
}

criterion_group!(benches, scram);
criterion_main!(benches);
