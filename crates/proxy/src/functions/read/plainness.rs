//! What is fit for a standby, read in the same check.

use std::sync::Arc;

use trunkline_session::{FunctionEffect, PlainnessCatalog};

use super::{FunctionsReader, aside, follow_users};
use crate::functions::connection::{CatalogConnection, FunctionsReadError};
use crate::functions::graph::{FunctionGraph, RelationKind, RelationRow};

impl FunctionsReader {
    /// Follows what is not plain as [`FunctionsReader::follow`] does effects, and adds the relations and types that were found to `named`.
    /// `None` when there is more than is read: all else of the check counts.
    pub(super) async fn plainness(
        &self,
        connection: &CatalogConnection,
        named: &mut Vec<u32>,
    ) -> Result<Option<PlainnessCatalog>, FunctionsReadError> {
        match self.follow_not_plain(connection).await {
            Ok((catalog, found)) => {
                named.extend(found);
                named.sort_unstable();
                named.dedup();
                Ok(Some(catalog))
            }
            Err(error @ FunctionsReadError::TooMany(_)) => {
                tracing::warn!(
                    db.name = %self.database, %error,
                    "could not find out which statements are fit for a standby: all of this database go to the primary"
                );
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn follow_not_plain(
        &self,
        connection: &CatalogConnection,
    ) -> Result<(PlainnessCatalog, Vec<u32>), FunctionsReadError> {
        let Some(built_in) = &self.built_in else { return Err(FunctionsReadError::NoServer) };
        let relations: Arc<[RelationRow]> = connection.relations().await?.into();
        let views = system_views(&relations);
        let (functions, rows) = (Arc::clone(&self.functions), Arc::clone(&relations));
        let (graph, mut dependencies) = aside(move || {
            let functions = functions.iter().map(|function| function.of_standby()).collect();
            let (mut graph, mut dependencies) = FunctionGraph::new(functions);
            dependencies.extend(graph.add_not_plain(&rows));
            (graph, dependencies)
        })
        .await?;
        dependencies.extend(connection.users_of_built_in(&built_in.not_plain).await?);
        dependencies.extend(connection.users_of_system_views(&views).await?);
        let graph = follow_users(connection, graph, dependencies).await?;
        let named = graph.named();
        let catalog = aside(move || graph.plainness(&relations)).await?;
        if let Some(cause) = &catalog.everything {
            tracing::warn!(
                db.name = %self.database, %cause,
                "a cast, an operator class or a text search parser of built-in types is not fit for a standby: all statements go to the primary"
            );
        }
        Ok((catalog, named))
    }
}

/// The views of PostgreSQL that are not plain, by OID.
fn system_views(relations: &[RelationRow]) -> Vec<(u32, FunctionEffect)> {
    let views = relations.iter().filter(|row| row.kind == RelationKind::SystemView);
    views.filter_map(|row| Some((row.oid, row.not_plain()?))).collect()
}
