//! Nanoseconds of one query's whole journey through the session, of one that stays, one that may move, and with its SQL kept.

mod journeys;

use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use trunkline_session::Mobility;

fn session(c: &mut Criterion) {
    let kinds = [
        ("session_fixed", Mobility::Fixed, 0),
        ("session_movable", Mobility::Movable, 0),
        ("session_movable_with_sql", Mobility::Movable, 1000),
    ];
    for (group, mobility, sql_bytes_max) in kinds {
        let mut group = c.benchmark_group(group);
        for journey in journeys::journeys() {
            let mut session = journeys::session(mobility, sql_bytes_max);
            let now = Instant::now();
            group.bench_function(journey.name, |b| b.iter(|| journey.travel(&mut session, now)));
        }
        group.finish();
    }
}

criterion_group!(benches, session);
criterion_main!(benches);
