//! Is this PostgreSQL server fit to serve? Probes and the judgement over them.
