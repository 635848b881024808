//! The question a server is asked, and its answer as facts.
