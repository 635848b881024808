//! The effect of a function on a session, without that of the functions it calls.

use std::sync::Arc;

use trunkline_session::{FunctionEffect, FunctionSource, PinReason};

mod plain;

/// A function as `pg_proc` has it.
#[derive(Clone, Debug)]
pub(super) struct FunctionRow {
    pub(super) oid: u32,
    pub(super) name: Box<[u8]>,
    pub(super) language: String,
    /// Its source, or the name of its C function.
    pub(super) source: Vec<u8>,
    /// Its library.
    pub(super) library: String,
    /// The extension it belongs to.
    pub(super) extension: Option<String>,
    /// It can be called in the notation for columns, as `row.function`.
    pub(super) is_attribute: bool,
    /// The settings that its SET clauses name; `pg_temp` for a `search_path` that has it before other schemas.
    pub(super) sets: Vec<String>,
}

/// A function and its own effect.
#[derive(Clone, Debug)]
pub(super) struct Function {
    pub(super) oid: u32,
    pub(super) name: Box<[u8]>,
    pub(super) effect: FunctionEffect,
    /// The names in its source, if the source can be read.
    pub(super) source: Option<FunctionSource>,
    pub(super) is_attribute: bool,
    /// Why a standby must not run it, by itself.
    pub(super) not_plain: Option<Arc<str>>,
}

/// Extensions whose functions do not change the state of a session, except for [`EXCEPTIONS`]. Sorted.
///
/// Those of PostgreSQL's contrib, and well-known others, according to their sources.
const HARMLESS: &[&str] = &[
    "address_standardizer",
    "address_standardizer_data_us",
    "amcheck",
    "autoinc",
    "bloom",
    "btree_gin",
    "btree_gist",
    "citext",
    "cube",
    "dblink",
    "dict_int",
    "dict_xsyn",
    "earthdistance",
    "file_fdw",
    "fuzzystrmatch",
    "h3",
    "h3_postgis",
    "hll",
    "hstore",
    "insert_username",
    "intagg",
    "intarray",
    "ip4r",
    "isn",
    "lo",
    "ltree",
    "moddatetime",
    "old_snapshot",
    "pageinspect",
    "pg_bigm",
    "pg_buffercache",
    "pg_cron",
    "pg_freespacemap",
    "pg_graphql",
    "pg_jsonschema",
    "pg_logicalinspect",
    "pg_net",
    "pg_overexplain",
    "pg_prewarm",
    "pg_stat_kcache",
    "pg_stat_monitor",
    "pg_stat_statements",
    "pg_surgery",
    "pg_trgm",
    "pg_visibility",
    "pg_walinspect",
    "pgcrypto",
    "pgjwt",
    "pgroonga",
    "pgrouting",
    "pgrowlocks",
    "pgstattuple",
    "plpgsql",
    "postgis",
    "postgis_raster",
    "postgis_sfcgal",
    "postgis_tiger_geocoder",
    "postgis_topology",
    "postgres_fdw",
    "prefix",
    "refint",
    "roaringbitmap",
    "rum",
    "seg",
    "semver",
    "sslinfo",
    "tablefunc",
    "tcn",
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

/// Functions of these extensions that do change it: the extension, the beginning of the name, and the setting that
/// the function changes, if it is one.
const EXCEPTIONS: &[(&str, &str, Option<&str>)] = &[
    ("pg_trgm", "set_limit", Some("pg_trgm.similarity_threshold")),
    ("isn", "isn_weak", None),
    ("isn", "accept_weak_input", None),
    ("hll", "hll_set_", None),
    ("postgis_topology", "settopologygeometry", None),
    // They run SQL that they are given as a value.
    ("tablefunc", "connectby", None),
    ("tablefunc", "crosstab", None),
    ("xml2", "xpath_table", None),
];

/// Libraries of PostgreSQL itself whose functions may be declared by hand.
const HARMLESS_LIBRARIES: &[&str] =
    &["plpgsql", "pgoutput", "test_decoding", "dict_snowball", "latin2_and_win1250"];

impl Function {
    pub(super) fn of(row: FunctionRow) -> Self {
        let (mut effect, source) = judge(&row);
        for key in &row.sets {
            effect.add(&FunctionEffect::of_clause(key));
        }
        let not_plain = plain::not_plain(&row, &effect, source.as_ref());
        let FunctionRow { oid, name, is_attribute, .. } = row;
        Self { oid, name, effect, source, is_attribute, not_plain }
    }

    /// The same with nothing but what makes it unfit for a standby as its effect.
    pub(super) fn of_standby(&self) -> Self {
        let effect = self.not_plain.clone().map(FunctionEffect::not_plain).unwrap_or_default();
        Self { effect, ..self.clone() }
    }
}

fn judge(row: &FunctionRow) -> (FunctionEffect, Option<FunctionSource>) {
    if let Some(extension) = row.extension.as_deref().filter(|name| is_among(HARMLESS, name)) {
        return (of_extension(extension, &row.name), None);
    }
    match row.language.as_str() {
        "sql" | "plpgsql" => {
            let source = FunctionSource::read(&row.source);
            (source.effect.clone(), Some(source))
        }
        // Another name for a built-in function.
        "internal" => (FunctionEffect::of_name(&row.source), None),
        "c" => (of_library(library(&row.library), &row.name), None),
        // Their state in global variables (GD, SD, %_SHARED) cannot be seen.
        _other => (FunctionEffect::pins(PinReason::OpaqueFunction), None),
    }
}

fn is_among(names: &[&str], name: &str) -> bool {
    names.binary_search(&name).is_ok()
}

fn of_extension(extension: &str, name: &[u8]) -> FunctionEffect {
    let is_it = |(of, front, _): &&(&str, &str, _)| *of == extension && name.starts_with(front.as_bytes());
    match EXCEPTIONS.iter().find(is_it) {
        Some((_, _, Some(setting))) => FunctionEffect::sets(setting),
        Some((_, _, None)) => FunctionEffect::pins(PinReason::OpaqueFunction),
        None => FunctionEffect::of_name(name),
    }
}

fn of_library(library: &str, name: &[u8]) -> FunctionEffect {
    if is_among(HARMLESS, library) {
        return of_extension(library, name);
    }
    if HARMLESS_LIBRARIES.contains(&library) {
        return FunctionEffect::of_name(name);
    }
    FunctionEffect::pins(PinReason::OpaqueFunction)
}

/// The name of a library without directory, suffix and version: `$libdir/postgis-3` is `postgis`.
fn library(file: &str) -> &str {
    let name = file.rsplit('/').next().unwrap_or(file);
    let name = name.strip_suffix(".so").unwrap_or(name);
    let bare = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    bare.strip_suffix('-').filter(|_| bare.len() < name.len()).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effect(
        language: &str,
        source: &str,
        library: &str,
        extension: Option<&str>,
        name: &str,
    ) -> FunctionEffect {
        Function::of(FunctionRow {
            oid: 20_000,
            name: name.as_bytes().into(),
            language: language.to_owned(),
            source: source.as_bytes().to_vec(),
            library: library.to_owned(),
            extension: extension.map(str::to_owned),
            is_attribute: false,
            sets: Vec::new(),
        })
        .effect
    }

    #[test]
    fn a_clause_leaves_the_seed_and_the_name_of_a_custom_setting() {
        let with = |key: &str| {
            Function::of(FunctionRow {
                oid: 20_000,
                name: b"f"[..].into(),
                language: "sql".to_owned(),
                source: b"select 1".to_vec(),
                library: String::new(),
                extension: None,
                is_attribute: false,
                sets: vec![key.to_owned()],
            })
            .effect
        };
        assert_eq!(with("seed").pins.first(), Some(PinReason::SideEffects("setseed")));
        assert_eq!(with("App.tenant"), FunctionEffect::sets("app.tenant"));
        assert!(with("search_path").is_harmless());
        assert_eq!(with("pg_temp").pins.first(), Some(PinReason::TemporaryObject));
    }

    #[test]
    fn names_are_in_order() {
        assert!(HARMLESS.is_sorted(), "binary search needs it");
    }

    #[test]
    fn functions_in_c_pin_unless_their_library_is_known() {
        let opaque = Some(PinReason::OpaqueFunction);
        assert_eq!(effect("c", "f", "/opt/mine.so", None, "f").pins.first(), opaque);
        assert_eq!(effect("c", "f", "$libdir/mine", Some("mine"), "f").pins.first(), opaque);
        assert!(effect("c", "pg_digest", "$libdir/pgcrypto", Some("pgcrypto"), "digest").is_harmless());
        assert!(effect("c", "x", "$libdir/postgis-3", None, "st_x").is_harmless());
        assert!(effect("c", "x", "$libdir/timescaledb-2.11.1", None, "time_bucket").is_harmless());
        assert_eq!(effect("plpython3u", "return 1", "", None, "f").pins.first(), opaque);
        assert_eq!(effect("plv8", "return 1", "", None, "f").pins.first(), opaque);
    }

    #[test]
    fn other_names_of_built_in_functions_do_what_those_do() {
        assert!(effect("internal", "int4pl", "", None, "add").is_harmless());
        assert_eq!(
            effect("internal", "set_config_by_name", "", None, "f").pins.first(),
            Some(PinReason::UnknownSetting)
        );
        assert_eq!(
            effect("internal", "pg_advisory_lock_int8", "", None, "f").pins.first(),
            Some(PinReason::AdvisoryLock)
        );
    }

    #[test]
    fn some_functions_of_harmless_extensions_are_not() {
        let limit = effect("c", "set_limit", "$libdir/pg_trgm", Some("pg_trgm"), "set_limit");
        assert_eq!((limit.pins.first(), limit.sets.len()), (None, 1));
        assert!(effect("c", "isn_weak", "$libdir/isn", Some("isn"), "isn_weak").pins.first().is_some());
        assert!(effect("c", "x", "$libdir/dblink", Some("dblink"), "dblink_connect").pins.first().is_some());
        assert!(
            effect("plpgsql", "begin execute x; end", "", Some("postgis"), "addgeometrycolumn").is_harmless()
        );
    }

    #[test]
    fn sources_are_read() {
        assert_eq!(
            effect("plpgsql", "begin perform set_config('a.b', 'c', false); end", "", None, "f").sets.len(),
            1
        );
        assert!(effect("sql", "select 1", "", Some("of_my_own"), "f").is_harmless());
    }
}
