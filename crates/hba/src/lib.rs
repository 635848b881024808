//! Who may come in, and by what proof: `pg_hba.conf` and `pg_ident.conf` as PostgreSQL 16 reads them.
//!
//! - [`HbaRules`]: the rules of a file and of those it includes; the first that a connection matches decides.
//! - [`IdentMaps`]: which users of the database a name from elsewhere may be: of a certificate, or of this machine.
//!
//! Nothing here asks the network or a database: what a rule needs to know of a connection is told in an [`HbaClient`].
//! Files are read through [`AccessFiles`], so that a test or a fuzzer may have them in memory.
//!
//! ```
//! use trunkline_hba::{DiskFiles, HbaRules, IdentMaps};
//!
//! # fn main() -> Result<(), trunkline_hba::FileProblems> {
//! # let folder = tempfile::tempdir().expect("a folder");
//! # let path = folder.path().join("pg_hba.conf");
//! # std::fs::write(&path, "hostssl all all 10.0.0.0/8 scram-sha-256\n").expect("it is ours");
//! let rules = HbaRules::load(&DiskFiles, &path.to_string_lossy(), &IdentMaps::default())?;
//! assert_eq!(rules.iter().count(), 1);
//! # Ok(())
//! # }
//! ```

mod address;
mod files;
mod ident;
mod kinds;
pub mod limits;
mod lines;
mod options;
mod pattern;
mod problem;
mod rule;
mod rules;
mod token;

pub use address::LocalNetwork;
pub use files::{AccessFiles, DiskFiles};
pub use ident::IdentMaps;
pub use kinds::{CertificateDemand, CertificateName, HbaMethod};
pub use problem::{FileProblem, FileProblems, LinePlace};
pub use rule::HbaRule;
pub use rules::{HbaClient, HbaRules};
