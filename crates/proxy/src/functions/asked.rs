//! The catalog of a database for an operator who asks about it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use trunkline_session::{Functions, NotJudged, SqlExplained};

use super::{FunctionStore, PlainnessWish};
use crate::limits::FUNCTIONS_FIRST_LOOK_PATIENCE;
use crate::settings::UserFunctions;

/// How often it is looked whether it is there: who reads it tells nobody.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

impl FunctionStore {
    /// The databases that are read.
    pub(crate) fn databases(&self) -> Vec<String> {
        let databases = self.shared.databases();
        let is_held = |database: &super::Database| database.functions.strong_count() > 0;
        let mut names: Vec<_> = databases
            .iter()
            .filter(|(_, database)| is_held(database))
            .map(|(name, _)| name.to_string())
            .collect();
        names.sort_unstable();
        names
    }

    /// The functions of a database, after their catalog was read, if it can be in time; `None` where it is not to be read.
    pub(crate) async fn asked(&self, database: &str) -> Option<Arc<Functions>> {
        match self.shared.mode {
            UserFunctions::Trust | UserFunctions::Pin => return None,
            UserFunctions::Read => {}
        }
        let (functions, _looked) = self.held(database, PlainnessWish::Wanted);
        let read = async {
            while is_unread(&functions) {
                sleep(LOOK_INTERVAL).await;
            }
        };
        // What is not known in time is said.
        let _in_time = timeout(FUNCTIONS_FIRST_LOOK_PATIENCE, read).await;
        Some(functions)
    }
}

fn is_unread(functions: &Functions) -> bool {
    match functions.explain(b"SELECT") {
        SqlExplained::NotJudged { why: NotJudged::Unread | NotJudged::Changing, .. } => true,
        SqlExplained::NotJudged { why: NotJudged::NoSuchName | NotJudged::Unscannable, .. }
        | SqlExplained::Reads(_)
        | SqlExplained::BeginsTransaction
        | SqlExplained::Words(_)
        | SqlExplained::NotPlain { .. } => false,
    }
}
