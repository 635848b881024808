//! What clients and servers may rely on.
