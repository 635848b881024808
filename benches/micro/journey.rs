//! One kind of journey many times, for callgrind: `scripts/bench/instructions.sh` counts its instructions.

mod journeys;

use std::time::Instant;

use trunkline_session::Mobility;

fn main() {
    let mut args = std::env::args().skip(1);
    let name = args.next().unwrap_or_else(|| "simple".to_owned());
    let times: u32 = args.next().and_then(|times| times.parse().ok()).unwrap_or(1000);
    let journeys = journeys::journeys();
    let journey = journeys
        .iter()
        .find(|journey| journey.name == name)
        .expect("simple, extended, prepared or rows_1000");
    let mobility = match args.next().as_deref() {
        Some("movable") => Mobility::Movable,
        _fixed => Mobility::Fixed,
    };
    let mut session = journeys::session(mobility, 0);
    let now = Instant::now();
    (0..times).for_each(|_| journey.travel(&mut session, now));
}
