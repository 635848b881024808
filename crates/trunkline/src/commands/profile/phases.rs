//! Trunkline's timing notice.

use std::time::Duration;

/// Message of the notice that carries the timing.
const MESSAGE: &str = "trunkline timing";

/// What Trunkline measured for one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Phases {
    /// Name of the server that answered.
    pub(super) server: String,
    /// Until a server was ready to take the request.
    pub(super) wait: Duration,
    /// From then to the first byte of the answer.
    pub(super) server_first: Duration,
    /// From then to the answer's completion.
    pub(super) server_total: Duration,
    /// Blocked writing to the client.
    pub(super) client: Duration,
    /// Bytes of the answer.
    pub(super) bytes: u64,
}

impl Phases {
    /// Reads a notice; `None` when it is not a timing notice. Unknown fields are ignored, so that a newer proxy
    /// may add some.
    pub(super) fn parse(message: &str, detail: Option<&str>) -> Option<Self> {
        let detail = detail.filter(|_| message == MESSAGE)?;
        let mut phases = Phases::default();
        for (name, value) in detail.split_whitespace().filter_map(|word| word.split_once('=')) {
            let micros = || value.parse().map(Duration::from_micros).unwrap_or_default();
            match name {
                "server" => value.clone_into(&mut phases.server),
                "wait_us" => phases.wait = micros(),
                "first_us" => phases.server_first = micros(),
                "total_us" => phases.server_total = micros(),
                "client_us" => phases.client = micros(),
                "bytes" => phases.bytes = value.parse().unwrap_or_default(),
                _ => {}
            }
        }
        (!phases.server.is_empty()).then_some(phases)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timing_notice_is_read() {
        let detail = "server=replica1 wait_us=12 first_us=340 total_us=351 client_us=0 rows=1 bytes=70 new=1";
        let phases = Phases::parse("trunkline timing", Some(detail)).expect("it is one");
        assert_eq!(phases.server, "replica1");
        assert_eq!((phases.wait.as_micros(), phases.server_total.as_micros(), phases.bytes), (12, 351, 70));
    }

    #[test]
    fn other_notices_are_not_taken_for_one() {
        assert_eq!(Phases::parse("table does not exist", Some("server=x")), None);
        assert_eq!(Phases::parse("trunkline timing", None), None);
    }
}
