//! Real clusters, the real binary, and ways to break them: what the suites stand on.
//!
//! A suite is a file of `tests/tests`, its tests are named as promises. Most start from
//! [`shared_cluster`], which lives as long as the test binary and must be left as it was found; those that
//! break a server start [`own_cluster`]. Nothing here sleeps where an event can be waited for.

mod binary;
mod built_in;
mod certificates;
mod cluster;
mod commits;
mod drivers;
mod endpoint;
mod eventually;
mod extended;
mod fake;
mod forwarder;
mod http;
mod impostor;
mod load;
mod login;
mod machine;
mod pages;
mod patroni;
mod pools;
mod routed;
mod stream;
mod tokens;
mod unread;
mod watch;
mod wire;
mod wiretap;

pub use binary::binary;
pub use built_in::{functions_not_judged, reached_without_a_name};
pub use certificates::{Certificates, revocation_list, tls_is_on};
pub use cluster::{
    Traffic, cluster_changed, cluster_of, own_cluster, pg17, pg18, root, shared_cluster, tls_cluster, traffic,
};
pub use commits::Commits;
pub use drivers::{Pgbench, driver_skipped, has_program, pgbench, psql, psql_output, python};
pub use endpoint::{Auth, Endpoint, EndpointBuilder};
pub use eventually::{SetWhenDropped, eventually, within};
pub use fake::{FakeOptions, FakeRow, FakeSays, FakeScript, FakeServer};
pub use forwarder::{Forwarder, Weather};
pub use http::{HttpAnswer, http_get, http_request};
pub use impostor::Impostor;
pub use load::{ClientLoad, LoadError, LoadKind, LoadShare};
pub use login::Login;
pub use machine::{Machine, TestNetwork};
pub use patroni::{PatroniCluster, PatroniMember};
pub use pools::PoolRole;
pub use stream::ClientStream;
pub use tokens::{TokenLoad, TokenOutcome};
pub use unread::await_read;
pub use watch::{Verdict, Watch, spec, test_judge};
pub use wire::{Answer, Message, ServerError, Wire};
pub use wiretap::{Overheard, TlsBeginning, Wiretap};
