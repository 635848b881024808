//! Which dialect a server speaks, and of which managed cluster it is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::answer::{Identity, asked_text};
use super::question::rows;
use super::{failure, sql};
use crate::judge::{AskedFact, Membership, ProbeFailure, RefusedFact, Storage};
use trunkline_topology::Dialect;

/// Most instances that are believed of one cluster; RDS has 3.
const INSTANCES_MAX: usize = 64;
/// How often the instances of an RDS cluster are asked for again.
const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// Only Aurora's servers have this one among the extensions that can be created there.
const AURORA_EXTENSION: &str = "aurora_stat_utils";
/// And only RDS's this one.
const RDS_EXTENSION: &str = "rds_tools";

/// What is behind one connection.
#[derive(Debug)]
pub(super) struct Platform {
    configured: Dialect,
    dialect: Dialect,
    membership: Option<Arc<Membership>>,
    refused: Vec<RefusedFact>,
    /// When the instances of an RDS cluster were asked for.
    looked_at: Option<Instant>,
}

impl Platform {
    pub(super) fn new(configured: Dialect) -> Self {
        let refused = Vec::new();
        Platform { configured, dialect: configured, membership: None, refused, looked_at: None }
    }

    /// The dialect to ask in; never `auto` once the server was looked at.
    pub(super) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// What an RDS cluster says of itself.
    pub(super) fn membership(&self) -> Option<Arc<Membership>> {
        self.membership.clone()
    }

    pub(super) fn refused(&self) -> &[RefusedFact] {
        &self.refused
    }

    /// Whether it is time to ask for the instances of an RDS cluster again.
    pub(super) fn is_due_again(&self) -> bool {
        self.looked_at.is_some_and(|at| at.elapsed() >= ASKED_AGAIN_AFTER)
    }

    /// Finds out what the server is, by what it has told, and asks an RDS cluster for its instances.
    pub(super) async fn look(
        &mut self,
        client: &Client,
        identity: &Identity,
        patience: Duration,
    ) -> Result<(), ProbeFailure> {
        let is_aurora = identity.rds_extensions.as_deref().is_some_and(names_aurora);
        let is_rds = identity.rds_extensions.as_deref().is_some_and(|told| names(told, RDS_EXTENSION));
        self.dialect = match self.configured {
            Dialect::Auto if is_aurora => Dialect::Aurora,
            // Its name alone is nobody's word: whoever may create a schema could have one.
            Dialect::Auto if identity.has_rds_tools && is_rds => Dialect::RdsCluster,
            Dialect::Auto => Dialect::Postgres,
            configured => configured,
        };
        if self.dialect != Dialect::RdsCluster {
            return Ok(());
        }
        self.looked_at = Some(Instant::now());
        self.refused.clear();
        match rows(client, sql::RDS_TOPOLOGY, patience).await {
            Ok(rows) => {
                let text = |column| rows.first().and_then(|row| asked_text(row, column));
                self.membership = membership(text("own"), text("source"), text("instances"));
            }
            Err(ProbeFailure::Refusal { code, .. }) if failure::leaves_out(AskedFact::RdsTopology, code) => {
                self.membership = None;
                self.refused.push(RefusedFact { fact: AskedFact::RdsTopology, code });
            }
            Err(failure) => return Err(failure),
        }
        Ok(())
    }
}

fn names_aurora(extensions: &str) -> bool {
    names(extensions, AURORA_EXTENSION)
}

fn names(extensions: &str, wanted: &str) -> bool {
    extensions.split(',').any(|extension| extension.trim() == wanted)
}

/// Of an instance without a source, which is a cluster of its own, there is none.
fn membership(own: Option<&str>, source: Option<&str>, instances: Option<&str>) -> Option<Arc<Membership>> {
    Some(Arc::new(Membership {
        own: own?.into(),
        writer: Some(source?.into()),
        instances: instances.unwrap_or_default().split(',').take(INSTANCES_MAX).map(Arc::from).collect(),
        storage: Storage::Own,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aurora_is_known_by_an_extension_that_only_it_has() {
        assert!(names_aurora("address_standardizer, aurora_stat_utils, postgis"));
        assert!(!names_aurora("address_standardizer,rds_tools"));
        assert!(!names_aurora("not_aurora_stat_utils"));
    }

    #[test]
    fn an_instance_without_a_source_is_of_no_cluster() {
        assert_eq!(membership(Some("db-A"), None, None), None);
        let of_cluster = membership(Some("db-A"), Some("db-B"), Some("db-A,db-B")).expect("it has a source");
        assert!(!of_cluster.is_writer() && of_cluster.instances.len() == 2);
    }
}
