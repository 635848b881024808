//! One client's life, without I/O: what to forward, hold, answer; timing.
