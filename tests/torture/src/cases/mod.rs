//! The scenarios. What is a matter of combining (ways of setting, parameters, ends, protocols) is made of tables.

mod cancels;
mod copying;
mod cursors;
mod ends;
mod fixture;
mod hidden;
mod hunted;
mod identity;
mod locks;
mod notifications;
mod one_port;
mod pipelines;
mod plans;
mod prepared;
mod prepared_sql;
mod script;
mod settings;
mod startup;
mod temporary;
mod transactions;
mod unnamed;
mod utilities;
mod vanishing;
mod ways;

use crate::scenario::Scenario;

pub use fixture::fixture;

/// All scenarios, in the order of the table.
#[must_use]
pub fn all() -> Vec<Scenario> {
    [
        settings::cases(),
        ways::cases(),
        ends::cases(),
        startup::cases(),
        identity::cases(),
        prepared::cases(),
        prepared_sql::cases(),
        unnamed::cases(),
        plans::cases(),
        pipelines::cases(),
        copying::cases(),
        cursors::cases(),
        temporary::cases(),
        locks::cases(),
        notifications::cases(),
        hidden::cases(),
        utilities::cases(),
        hunted::cases(),
        transactions::cases(),
        cancels::cases(),
        vanishing::cases(),
        one_port::cases(),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_can_be_typed() {
        let mut names = BTreeSet::new();
        for scenario in all() {
            let can_be_typed = scenario.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            assert!(can_be_typed, "{}", scenario.name);
            assert!(names.insert(scenario.name.clone()), "{} is there twice", scenario.name);
        }
    }

    #[test]
    fn each_says_what_a_direct_connection_must_show() {
        for scenario in all() {
            assert!(scenario.has_effect(), "{} would test nothing", scenario.name);
            assert!(!scenario.about.contains(['|', '\n']), "{}", scenario.name);
        }
    }

    #[test]
    fn there_are_enough_of_them() {
        assert!(all().len() >= 300, "{}", all().len());
    }
}
