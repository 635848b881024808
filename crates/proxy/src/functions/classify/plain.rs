//! Whether a function may run on a standby, without what it calls.

use std::sync::Arc;

use trunkline_session::{FunctionEffect, FunctionSource};

use super::{FunctionRow, HARMLESS_LIBRARIES, is_among, library};
use crate::functions::standby;

/// Extensions whose functions in C compute, or read what is replicated, except for [`EXCEPTIONS`]. Sorted.
///
/// Not among them are those that reach other servers, files or processes (`dblink`, `postgres_fdw`, `file_fdw`, `pg_net`, `pg_cron`), that show one
/// server (`pg_buffercache`, `pageinspect`, `pg_stat_statements`, `pgstattuple`, `sslinfo`), that are for triggers, which writes alone run,
/// and that run SQL or read relations given as a value (`pgrouting`, `pg_graphql`, `postgis_tiger_geocoder`).
const PLAIN: &[&str] = &[
    "address_standardizer",
    "address_standardizer_data_us",
    "bloom",
    "btree_gin",
    "btree_gist",
    "citext",
    "cube",
    "dict_int",
    "dict_xsyn",
    "earthdistance",
    "fuzzystrmatch",
    "h3",
    "h3_postgis",
    "hll",
    "hstore",
    "intagg",
    "intarray",
    "ip4r",
    "isn",
    "ltree",
    "pg_bigm",
    "pg_jsonschema",
    "pg_trgm",
    "pgcrypto",
    "pgjwt",
    "plpgsql",
    "postgis",
    "postgis_sfcgal",
    "prefix",
    "roaringbitmap",
    "rum",
    "seg",
    "semver",
    "tablefunc",
    "timescaledb",
    "tsm_system_rows",
    "tsm_system_time",
    "unaccent",
    "uuid-ossp",
    "uuid_ossp",
    "vector",
    "xml2",
    "zhparser",
];

/// Functions of these that are not plain: the extension, and the beginning of the name. They read a relation that is given as a value,
/// show the server's own state, or are for the primary. What changes the session or runs SQL given as a value is known by its effect.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("pg_bigm", "pg_gin_pending_stats"),
    ("postgis", "addauth"),
    ("postgis", "checkauth"),
    ("postgis", "find_extent"),
    ("postgis", "lockrow"),
    ("postgis", "st_estimatedextent"),
    ("postgis", "st_findextent"),
    ("postgis", "unlockrows"),
    ("zhparser", "sync_"),
];

/// The beginnings of functions of TimescaleDB that are plain; its others run jobs and change what is stored.
const OF_TIMESCALEDB: &[&str] =
    &["compressed_data", "first", "histogram", "interpolate", "last", "locf", "time_bucket", "ts_now_mock"];

/// C functions of PostgreSQL behind aggregates and the constructors of range types, which no function of its own is named after. What an
/// aggregate runs depends on it.
/// Source: PostgreSQL 18, src/backend/catalog/pg_aggregate.c, `AggregateCreate`, and src/backend/commands/typecmds.c,
/// `makeRangeConstructors`, `makeMultirangeConstructors`.
const OF_DEFINITIONS: &[&[u8]] = &[
    b"aggregate_dummy",
    b"range_constructor2",
    b"range_constructor3",
    b"multirange_constructor0",
    b"multirange_constructor1",
    b"multirange_constructor2",
];

/// Why it is not plain, for people. `effect` and `source` are its own.
pub(super) fn not_plain(
    row: &FunctionRow,
    effect: &FunctionEffect,
    source: Option<&FunctionSource>,
) -> Option<Arc<str>> {
    let by_effect = || effect.changes_session().then_some("changes the session, or runs what cannot be seen");
    let why = reason(row, source).or_else(by_effect)?;
    Some(format!("function {} ({why})", String::from_utf8_lossy(&row.name)).into())
}

fn reason(row: &FunctionRow, source: Option<&FunctionSource>) -> Option<&'static str> {
    if let Some(extension) = row.extension.as_deref().filter(|name| is_among(PLAIN, name)) {
        return is_exception(extension, &row.name).then_some("not for standbys");
    }
    match row.language.as_str() {
        // The source of an extension that does not change the session is not read.
        "sql" | "plpgsql" => source.map_or(Some("of an extension"), |source| source.not_plain),
        "internal" => {
            let source = row.source.as_slice();
            let is_plain = OF_DEFINITIONS.contains(&source) || standby::plain_functions().contains(source);
            (!is_plain).then_some("another name")
        }
        "c" => {
            let library = library(&row.library);
            let is_plain = HARMLESS_LIBRARIES.contains(&library)
                || (is_among(PLAIN, library) && !is_exception(library, &row.name));
            (!is_plain).then_some("in C")
        }
        _other => Some("its language"),
    }
}

fn is_exception(extension: &str, name: &[u8]) -> bool {
    let begins = |beginning: &str| name.starts_with(beginning.as_bytes());
    EXCEPTIONS.iter().any(|(of, beginning)| *of == extension && begins(beginning))
        || (extension == "timescaledb" && !OF_TIMESCALEDB.iter().any(|beginning| begins(beginning)))
}

#[cfg(test)]
mod tests {
    use super::super::Function;
    use super::*;

    fn why(
        language: &str,
        source: &str,
        library: &str,
        extension: Option<&str>,
        name: &str,
    ) -> Option<String> {
        let row = FunctionRow {
            oid: 20_000,
            name: name.as_bytes().into(),
            language: language.to_owned(),
            source: source.as_bytes().to_vec(),
            library: library.to_owned(),
            extension: extension.map(str::to_owned),
            is_attribute: false,
            sets: Vec::new(),
        };
        Function::of(row).not_plain.map(|why| why.to_string())
    }

    #[test]
    fn names_are_in_order() {
        assert!(PLAIN.is_sorted(), "binary search needs it");
    }

    #[test]
    fn functions_in_c_are_plain_where_their_extension_is() {
        for (extension, name) in
            [("pg_trgm", "similarity"), ("postgis", "st_x"), ("timescaledb", "time_bucket")]
        {
            assert_eq!(why("c", "x", "$libdir/x", Some(extension), name), None, "{extension}");
            assert_eq!(why("c", "x", &format!("$libdir/{extension}-3"), None, name), None, "{extension}");
        }
        for (extension, name) in [
            ("dblink", "dblink_exec"),
            ("postgres_fdw", "postgres_fdw_handler"),
            ("mine", "f"),
            ("timescaledb", "add_job"),
            ("postgis", "lockrow"),
            ("pg_trgm", "set_limit"),
            ("tablefunc", "crosstab"),
        ] {
            assert!(why("c", "x", "$libdir/x", Some(extension), name).is_some(), "{extension}");
        }
        assert_eq!(why("c", "f", "mine.so", None, "f").as_deref(), Some("function f (in C)"));
    }

    #[test]
    fn other_languages_and_names_of_built_in_functions_are_judged() {
        assert!(why("plpython3u", "return 1", "", None, "f").is_some());
        assert_eq!(why("internal", "int4pl", "", None, "f"), None);
        assert!(why("internal", "pg_is_in_recovery", "", None, "f").is_some());
        assert!(why("internal", "any_symbol", "", None, "f").is_some());
    }

    #[test]
    fn sources_are_judged() {
        let handler = "begin return 1; exception when others then return 2; end";
        assert_eq!(
            why("plpgsql", handler, "", Some("of_my_own"), "f").as_deref(),
            Some("function f (exception handler)")
        );
        assert_eq!(why("plpgsql", handler, "", Some("postgis"), "f"), None);
        assert_eq!(why("sql", "select 1", "", None, "f"), None);
        assert!(why("plpgsql", "begin execute x; end", "", None, "f").is_some());
        assert!(why("sql", "select 'never ends", "", None, "f").is_some());
        assert!(why("sql", "select dblink_exec('')", "", Some("dblink"), "f").is_some());
    }
}
