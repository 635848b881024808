//! Checking an idle connection out and in again costs no allocation, nor does waiting for one.

use std::alloc::System;
use std::hint::black_box;
use std::time::Instant;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use trunkline_pool::{
    CarriedState, CheckIn, CheckOut, CheckedIn, ConnectionToken, PoolAsk, PoolBound, PoolKey, PoolSettings,
    Pools, Taken, WaitState,
};
use trunkline_topology::ServerId;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CONNECTIONS: u32 = 20;

fn main() {
    checking_out_and_in_and_waiting_allocate_nothing();
    println!("checking out and in, and waiting, allocate nothing: ok");
}

fn checking_out_and_in_and_waiting_allocate_nothing() {
    let now = Instant::now();
    let settings = PoolSettings {
        pool_size: CONNECTIONS,
        server_check_delay: std::time::Duration::from_secs(30),
        ..PoolSettings::default()
    };
    let mut pools = Pools::new(settings);
    let key = pools.join(&PoolKey::new("app", "web", PoolBound::Sized, 0, b"")).expect("one key");
    let state = CarriedState { fingerprint: 1, marks: 0 };
    let candidates = [ServerId(0), ServerId(1)];
    let ask = PoolAsk { key, candidates: &candidates, state, fits: |_, _| true, worker: 0, client: 1 };
    let opened: Vec<_> = (0..CONNECTIONS)
        .map(|slot| {
            let CheckOut::Open { place, .. } = pools.check_out(&ask, now) else { panic!("no room") };
            let token = ConnectionToken { worker: 0, slot, generation: 0 };
            assert!(pools.opened(place, token, now).is_empty());
            token
        })
        .collect();
    for token in opened {
        assert_eq!(pools.check_in(token, state, now).fate, CheckedIn::Idle);
    }
    let region = Region::new(ALLOCATOR);
    for _ in 0..1_000 {
        let CheckOut::Idle(given) = black_box(pools.check_out(&ask, now)) else { panic!("not idle") };
        let CheckIn { fate, effects } = black_box(pools.check_in(given.token, state, now));
        assert!(fate == CheckedIn::Idle && effects.is_empty());
    }
    let change = region.change();
    assert_eq!((change.allocations, change.reallocations), (0, 0), "{change:?}");
    many_clients_on_few_connections(&mut pools, &ask, now);
}

/// Each client that has finished asks again, behind those who wait.
fn many_clients_on_few_connections(pools: &mut Pools, ask: &PoolAsk<'_>, now: Instant) {
    let ask = &PoolAsk { candidates: &ask.candidates[..1], ..*ask };
    let mut held = std::collections::VecDeque::with_capacity(2 * CONNECTIONS as usize);
    while let CheckOut::Idle(given) = pools.check_out(ask, now) {
        held.push_back(given.token);
    }
    let mut cycle = |times: usize| {
        for _ in 0..times {
            let CheckOut::Wait(_) = black_box(pools.check_out(ask, now)) else { panic!("no wait") };
            let token = held.pop_front().expect("as many as connections");
            let back = black_box(pools.check_in(token, ask.state, now));
            let CheckedIn::GivenTo(grant) = back.fate else { panic!("not given") };
            let WaitState::Ready(Taken::Idle(given)) = pools.take(grant.ticket, now) else {
                panic!("not taken")
            };
            held.push_back(given.token);
        }
    };
    // The tables grow to what is needed.
    cycle(100);
    let region = Region::new(ALLOCATOR);
    cycle(1_000);
    let change = region.change();
    assert_eq!((change.allocations, change.reallocations), (0, 0), "{change:?}");
}
