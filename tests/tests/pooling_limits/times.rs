//! How long statements take that wait for a connection.

use super::*;

#[test]
fn a_wait_for_a_connection_is_the_wait_in_the_times_of_its_statement() {
    const LONG: u64 = 300_000;
    let role = role("of_times");
    let builder = pool(1).flag("--log-statements", "0").flag("--log-format", "json");
    let endpoint = builder.start();
    let [mut first, mut second] = [(), ()].map(|()| role.connect(endpoint.writes()));
    fine(&mut first, "BEGIN");
    begin_to_wait(&endpoint, role, &mut second);
    fine(&mut first, "SELECT pg_sleep(0.3)");
    fine(&mut first, "COMMIT");
    is_served(&mut second);
    let waited = |sql: &str| {
        let told = || {
            let log = endpoint.log();
            let mut records =
                log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
            records.find(|record| record["sql"] == sql).and_then(|record| record["wait_us"].as_u64())
        };
        within(PATIENCE, "its times are logged", told).0
    };
    assert!(waited("SELECT 'served'") >= LONG);
    assert!(waited("SELECT pg_sleep(0.3)") < LONG, "who has a connection waits for none");
}
