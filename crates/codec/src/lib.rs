//! PostgreSQL wire protocol 3.0 and 3.2: framing, typed messages, SCRAM. No I/O.
