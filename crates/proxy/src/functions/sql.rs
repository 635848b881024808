//! The queries. The connection's `search_path` is `pg_catalog` alone.
//!
//! PostgreSQL's own objects have OIDs below 16384.
//! Source: PostgreSQL 18, src/include/access/transam.h, `FirstNormalObjectId`.

use trunkline_session::FUNCTIONS_FINGERPRINT;

/// Names of the built-in functions, with their OIDs.
pub(super) const BUILT_IN: &str =
    "SELECT p.oid, convert_to(p.proname::text, 'UTF8') FROM pg_proc p WHERE p.oid < 16384";

/// A fingerprint that changes when a function or an extension does, the one of the functions alone, their number, and the
/// length of their sources.
pub(super) fn functions_fingerprint() -> String {
    // Without OFFSET it would be computed twice.
    format!(
        "SELECT concat_ws(' ', f.own, \
         (SELECT sum(hashtextextended(concat_ws(' ', e.oid, e.xmin), 0)) FROM pg_extension e)), f.own, \
         (SELECT count(*) FROM pg_proc p WHERE p.oid >= 16384), \
         (SELECT coalesce(sum(length(p.prosrc)), 0)::int8 FROM pg_proc p WHERE p.oid >= 16384) \
         FROM (SELECT {FUNCTIONS_FINGERPRINT} AS own OFFSET 0) f"
    )
}

/// A fingerprint that changes when something changes that may call a function.
pub(super) const CALLERS_FINGERPRINT: &str = "\
SELECT concat_ws(' ', \
 (SELECT sum(hashtextextended(concat_ws(' ', o.oid, o.xmin), 0)) FROM pg_rewrite o WHERE o.oid >= 16384), \
 (SELECT sum(hashtextextended(concat_ws(' ', o.oid, o.xmin), 1)) FROM pg_policy o), \
 (SELECT sum(hashtextextended(concat_ws(' ', o.oid, o.xmin), 2)) FROM pg_operator o WHERE o.oid >= 16384), \
 (SELECT sum(hashtextextended(concat_ws(' ', o.oid, o.xmin), 3)) FROM pg_cast o WHERE o.oid >= 16384), \
 (SELECT sum(hashtextextended(concat_ws(' ', o.aggfnoid::oid, o.xmin), 4)) FROM pg_aggregate o \
   WHERE o.aggfnoid::oid >= 16384), \
 (SELECT sum(hashtextextended(concat_ws(' ', o.oid, o.xmin), 5)) FROM pg_trigger o WHERE NOT o.tgisinternal), \
 (SELECT sum(hashtextextended(concat_ws(' ', o.oid, o.xmin), 6)) FROM pg_attrdef o), \
 (SELECT sum(hashtextextended(concat_ws(' ', o.oid, o.xmin), 7)) FROM pg_constraint o \
   WHERE o.oid >= 16384 AND (o.contype = 'c' OR o.contype = 'f' \
   AND (o.confdeltype IN ('c', 'n', 'd') OR o.confupdtype IN ('c', 'n', 'd')))), \
 (SELECT sum(hashtextextended(concat_ws(' ', o.inhrelid, o.inhparent), 8)) FROM pg_inherits o), \
 (SELECT sum(hashtextextended(concat_ws(' ', o.oid, o.xmin), 9)) FROM pg_amproc o WHERE o.oid >= 16384), \
 (SELECT sum(hashtextextended(concat_ws(' ', o.oid, o.xmin), 10)) FROM pg_amop o WHERE o.oid >= 16384), \
 (SELECT sum(hashtextextended(concat_ws(' ', o.classid, o.objid, o.objsubid, o.refobjid), 11)) FROM pg_depend o \
   WHERE o.refclassid = 'pg_type'::regclass AND o.refobjid >= 16384 AND o.deptype = 'n'), \
 (SELECT sum(hashtextextended(concat_ws(' ', o.indexrelid, o.xmin), 12)) FROM pg_index o \
   WHERE o.indexrelid >= 16384 AND (o.indexprs IS NOT NULL OR o.indpred IS NOT NULL)), \
 (SELECT sum(hashtextextended(concat_ws(' ', o.oid, o.xmin), 13)) FROM pg_type o \
   WHERE o.oid >= 16384 AND o.typdefaultbin IS NOT NULL), \
 (SELECT sum(hashtextextended(concat_ws(' ', o.oid, o.xmin), 14)) FROM pg_statistic_ext o))";

/// Whether an event trigger is enabled.
pub(super) const HAS_EVENT_TRIGGER: &str =
    "SELECT EXISTS (SELECT FROM pg_event_trigger e WHERE e.evtenabled <> 'D' AND e.evtevent <> 'login')";

/// A fingerprint that changes when a relation or type with one of the OIDs `$1` gets another name.
pub(super) const NAMES_FINGERPRINT: &str = "\
SELECT concat_ws(' ', \
 (SELECT sum(hashtextextended(concat_ws(' ', c.oid, c.relname), 0)) FROM pg_class c WHERE c.oid = ANY ($1)), \
 (SELECT sum(hashtextextended(concat_ws(' ', t.oid, t.typname), 1)) FROM pg_type t WHERE t.oid = ANY ($1)))";

/// The functions with their sources; a body in the SQL standard's form is deparsed. Stops soon after `$1` bytes of
/// sources.
pub(super) fn functions(version: u32) -> String {
    let body = if version >= 140_000 { "pg_get_function_sqlbody(p.oid)" } else { "NULL::text" };
    format!(
        "WITH sources AS MATERIALIZED (SELECT p.oid, convert_to(coalesce({body}, p.prosrc), 'UTF8') AS source \
         FROM pg_proc p WHERE p.oid >= 16384), \
         counted AS (SELECT s.oid, s.source, coalesce(sum(length(s.source)) OVER ( \
         ORDER BY s.oid ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS bytes_before FROM sources s) \
         SELECT p.oid, convert_to(p.proname::text, 'UTF8'), l.lanname::text, \
         s.source, coalesce(p.probin, '')::text, e.extname::text, \
         coalesce(p.pronargs - p.pronargdefaults <= 1 AND (t.typtype IN ('c', 'd', 'p') OR p.provariadic <> 0), false), \
         ARRAY(SELECT CASE WHEN s.setting ~* '^search_path=(\"?pg_temp|.*pg_temp.*,)' THEN 'pg_temp' \
         ELSE split_part(s.setting, '=', 1) END FROM unnest(p.proconfig) s(setting)) \
         FROM counted s JOIN pg_proc p ON p.oid = s.oid JOIN pg_language l ON l.oid = p.prolang \
         LEFT JOIN pg_type t ON t.oid = p.proargtypes[0] \
         LEFT JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e' \
         LEFT JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND e.oid = d.refobjid \
         WHERE s.bytes_before <= $1"
    )
}

/// What uses one of the built-in functions `$1` directly: class and OID of the dependent, OID of the function.
/// PostgreSQL records no dependencies on built-in objects. `$2` is a regular expression that finds them in
/// expressions, and `$3` one that finds those with more than sequences: what takes from those only as it writes, such as a column's
/// default, does not matter to who reads. A view of `pg_settings` counts as a user of `set_config` (2078), which an UPDATE of it
/// calls.
pub(super) const USERS_OF_BUILT_IN: &str = "\
SELECT DISTINCT x.class, x.object, f.found[1]::oid FROM ( \
 SELECT 'pg_rewrite'::regclass::oid, w.oid, concat(w.ev_action::text, w.ev_qual::text), \
  CASE w.ev_type WHEN '1' THEN $2 ELSE $3 END FROM pg_rewrite w WHERE w.oid >= 16384 \
 UNION ALL SELECT 'pg_policy'::regclass::oid, p.oid, concat(p.polqual::text, p.polwithcheck::text), $2 FROM pg_policy p \
 UNION ALL SELECT 'pg_attrdef'::regclass::oid, a.oid, a.adbin::text, $3 FROM pg_attrdef a \
 UNION ALL SELECT 'pg_constraint'::regclass::oid, c.oid, c.conbin::text, \
  CASE WHEN c.contypid = 0 THEN $3 ELSE $2 END FROM pg_constraint c WHERE c.oid >= 16384 AND c.contype = 'c' \
 UNION ALL SELECT 'pg_trigger'::regclass::oid, t.oid, t.tgqual::text, $3 FROM pg_trigger t WHERE t.tgqual IS NOT NULL \
 UNION ALL SELECT 'pg_class'::regclass::oid, i.indrelid, concat(i.indexprs::text, i.indpred::text), $3 FROM pg_index i \
  WHERE i.indexprs IS NOT NULL OR i.indpred IS NOT NULL \
 UNION ALL SELECT 'pg_proc'::regclass::oid, p.oid, p.proargdefaults::text, $2 FROM pg_proc p \
  WHERE p.oid >= 16384 AND p.proargdefaults IS NOT NULL \
 UNION ALL SELECT 'pg_type'::regclass::oid, t.oid, t.typdefaultbin::text, $2 FROM pg_type t \
  WHERE t.oid >= 16384 AND t.typdefaultbin IS NOT NULL \
) AS x(class, object, expression, pattern) CROSS JOIN LATERAL regexp_matches(x.expression, x.pattern, 'g') f(found) \
UNION ALL SELECT 'pg_rewrite'::regclass::oid, w.oid, '2078'::oid FROM pg_rewrite w WHERE w.oid >= 16384 \
 AND w.ev_action::text LIKE concat('%:relid ', 'pg_settings'::regclass::oid, ' %') \
UNION ALL SELECT 'pg_operator'::regclass::oid, o.oid, o.oprcode::oid FROM pg_operator o \
 WHERE o.oid >= 16384 AND o.oprcode::oid = ANY ($1) \
UNION ALL SELECT 'pg_cast'::regclass::oid, c.oid, c.castfunc FROM pg_cast c \
 WHERE c.oid >= 16384 AND c.castfunc = ANY ($1) \
UNION ALL SELECT 'pg_proc'::regclass::oid, a.aggfnoid::oid, f.oid FROM pg_aggregate a, unnest($1) f(oid) \
 WHERE a.aggfnoid::oid >= 16384 AND f.oid = ANY (ARRAY[a.aggtransfn, a.aggfinalfn, a.aggcombinefn, \
  a.aggserialfn, a.aggdeserialfn, a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn]::oid[])";

/// What shows one of PostgreSQL's own views: class and OID of the rule or policy, OID of the view. No dependencies on those are
/// recorded. `$1` is a regular expression that finds them.
pub(super) const USERS_OF_SYSTEM_VIEWS: &str = "\
SELECT DISTINCT x.class, x.object, f.found[1]::oid FROM ( \
 SELECT 'pg_rewrite'::regclass::oid, w.oid, w.ev_action::text FROM pg_rewrite w WHERE w.oid >= 16384 AND w.ev_type = '1' \
 UNION ALL SELECT 'pg_policy'::regclass::oid, p.oid, p.polqual::text FROM pg_policy p WHERE p.polqual IS NOT NULL \
) AS x(class, object, expression) CROSS JOIN LATERAL regexp_matches(x.expression, $1, 'g') f(found)";

/// The relations that a statement can read on any connection, at most `$1`: OID, name and kind. Those of TOAST are left out.
pub(super) const RELATIONS: &str = "\
SELECT c.oid, convert_to(c.relname::text, 'UTF8'), \
 CASE WHEN c.relkind = 'v' AND c.relnamespace = 'pg_catalog'::regnamespace THEN 'system view' \
  WHEN c.oid >= 16384 AND (c.relkind = 'v' OR c.relrowsecurity) THEN 'indirect' ELSE c.relkind::text END \
 FROM pg_class c WHERE c.relkind IN ('r', 'v', 'm', 'f', 'p', 'S') AND c.relpersistence <> 't' LIMIT $1";

/// A fingerprint that changes when one of them is created, dropped or renamed, or gets row-level security.
pub(super) const RELATIONS_FINGERPRINT: &str = "\
SELECT concat_ws(' ', count(*), sum(hashtextextended(concat_ws(' ', c.oid, c.relname, c.relkind, c.relrowsecurity), 0))) \
 FROM pg_class c WHERE c.oid >= 16384 AND c.relkind IN ('r', 'v', 'm', 'f', 'p', 'S') AND c.relpersistence <> 't'";

/// Where the log is, or how far a standby has replayed it, as a number. Asked behind the reading: what was read is in the log before
/// it. The end of what is inserted, since a commit that does not wait for the disk is visible before it is there.
pub(super) const POSITION: &str = "\
SELECT (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END - '0/0'::pg_lsn)::text";

/// All whose use may run the objects in the arrays `$1` (classes), `$2` (OIDs) and `$3` (numbers given by the
/// proxy): number, kind, OID and name. At most `$4` rows. Those of the numbers `$5` matter to who reads only. A
/// materialized view runs its query if `$6`, for who refreshes it.
///
/// Follows pg_depend upwards; from rules, policies, defaults, triggers, constraints, indexes and statistics to their relation;
/// from a partition or child to its parent; from a table to the one that its foreign key cascades from; from a row to
/// its type; and from an operator or function of an operator class to its type. Where that is built in, what sorts or
/// compares may run it.
pub(super) const USERS: &str = "\
WITH RECURSIVE used(number, class, object, writes) AS ( \
 SELECT s.number, s.class, s.object, s.number <> ALL ($5::int4[]) FROM unnest($3::int4[], $1::oid[], $2::oid[]) s(number, class, object) \
 UNION SELECT u.number, n.class, n.object, u.writes FROM used u CROSS JOIN LATERAL ( \
  SELECT d.classid, d.objid FROM pg_depend d \
   WHERE d.refclassid = u.class AND d.refobjid = u.object AND d.deptype IN ('n', 'a', 'i', 'P', 'S') \
  UNION ALL SELECT 'pg_class'::regclass::oid, w.ev_class FROM pg_rewrite w \
   WHERE u.class = 'pg_rewrite'::regclass AND w.oid = u.object AND (u.writes OR w.ev_type = '1') \
   AND ($6 OR NOT EXISTS (SELECT FROM pg_class m WHERE m.oid = w.ev_class AND m.relkind = 'm')) \
  UNION ALL SELECT 'pg_class'::regclass::oid, p.polrelid FROM pg_policy p \
   WHERE u.class = 'pg_policy'::regclass AND p.oid = u.object \
  UNION ALL SELECT 'pg_class'::regclass::oid, a.adrelid FROM pg_attrdef a \
   WHERE u.writes AND u.class = 'pg_attrdef'::regclass AND a.oid = u.object \
  UNION ALL SELECT 'pg_class'::regclass::oid, t.tgrelid FROM pg_trigger t \
   WHERE u.writes AND u.class = 'pg_trigger'::regclass AND t.oid = u.object \
  UNION ALL SELECT 'pg_class'::regclass::oid, c.conrelid FROM pg_constraint c \
   WHERE u.writes AND u.class = 'pg_constraint'::regclass AND c.oid = u.object AND c.contype = 'c' AND c.conrelid <> 0 \
  UNION ALL SELECT 'pg_type'::regclass::oid, c.contypid FROM pg_constraint c \
   WHERE u.class = 'pg_constraint'::regclass AND c.oid = u.object AND c.contypid <> 0 \
  UNION ALL SELECT 'pg_class'::regclass::oid, i.indrelid FROM pg_index i \
   WHERE u.class = 'pg_class'::regclass AND i.indexrelid = u.object \
  UNION ALL SELECT 'pg_class'::regclass::oid, s.stxrelid FROM pg_statistic_ext s \
   WHERE u.class = 'pg_statistic_ext'::regclass AND s.oid = u.object \
  UNION ALL SELECT 'pg_class'::regclass::oid, h.inhparent FROM pg_inherits h \
   WHERE u.class = 'pg_class'::regclass AND h.inhrelid = u.object \
  UNION ALL SELECT 'pg_class'::regclass::oid, c.confrelid FROM pg_constraint c \
   WHERE u.writes AND u.class = 'pg_class'::regclass AND c.conrelid = u.object AND c.contype = 'f' \
   AND (c.confdeltype IN ('c', 'n', 'd') OR c.confupdtype IN ('c', 'n', 'd')) \
  UNION ALL SELECT 'pg_type'::regclass::oid, t.oid FROM pg_cast c JOIN pg_type t \
   ON t.oid IN (c.castsource, c.casttarget) AND t.oid >= 16384 \
   WHERE u.class = 'pg_cast'::regclass AND c.oid = u.object \
  UNION ALL SELECT 'pg_opclass'::regclass::oid, o.oid FROM pg_opclass o JOIN pg_amproc p ON p.amprocfamily = o.opcfamily \
   WHERE u.class = 'pg_amproc'::regclass AND p.oid = u.object \
  UNION ALL SELECT 'pg_opclass'::regclass::oid, o.oid FROM pg_opclass o JOIN pg_amop p ON p.amopfamily = o.opcfamily \
   WHERE u.class = 'pg_amop'::regclass AND p.oid = u.object \
  UNION ALL SELECT 'pg_type'::regclass::oid, o.opcintype FROM pg_opclass o \
   WHERE u.class = 'pg_opclass'::regclass AND o.oid = u.object AND o.opcintype >= 16384 \
  UNION ALL SELECT 'pg_type'::regclass::oid, c.reltype FROM pg_class c \
   WHERE u.class = 'pg_class'::regclass AND c.oid = u.object AND c.relkind = 'c' \
 ) n(class, object) WHERE n.class NOT IN ('pg_extension'::regclass, 'pg_namespace'::regclass)) \
SELECT u.number, 'function', u.object, ''::bytea FROM used u WHERE u.class = 'pg_proc'::regclass \
UNION ALL SELECT u.number, 'word', u.object, convert_to(c.relname::text, 'UTF8') FROM used u \
 JOIN pg_class c ON u.class = 'pg_class'::regclass AND c.oid = u.object WHERE c.relkind IN ('r', 'v', 'm', 'f', 'p') \
UNION ALL SELECT u.number, 'type', u.object, \
 convert_to(t.typname::text, 'UTF8') FROM used u \
 JOIN pg_type t ON u.class = 'pg_type'::regclass AND t.oid = u.object \
UNION ALL SELECT u.number, 'type', t.oid, convert_to(t.typname::text, 'UTF8') FROM used u \
 JOIN pg_class c ON u.class = 'pg_class'::regclass AND c.oid = u.object \
 JOIN pg_type t ON t.typelem = c.reltype AND t.typcategory = 'A' \
UNION ALL SELECT u.number, 'operator', u.object, convert_to(o.oprname::text, 'UTF8') FROM used u \
 JOIN pg_operator o ON u.class = 'pg_operator'::regclass AND o.oid = u.object \
UNION ALL SELECT u.number, 'cast', u.object, ''::bytea FROM used u \
 JOIN pg_cast c ON u.class = 'pg_cast'::regclass AND c.oid = u.object \
 WHERE c.castsource < 16384 AND c.casttarget < 16384 \
UNION ALL SELECT u.number, 'operator class', u.object, ''::bytea FROM used u \
 JOIN pg_opclass o ON u.class = 'pg_opclass'::regclass AND o.oid = u.object \
 JOIN pg_am m ON m.oid = o.opcmethod WHERE o.opcintype < 16384 AND m.amname IN ('btree', 'hash') \
UNION ALL SELECT u.number, 'text search', u.object, ''::bytea FROM used u \
 WHERE NOT u.writes AND u.class IN ('pg_ts_parser'::regclass, 'pg_ts_template'::regclass, 'pg_conversion'::regclass) \
LIMIT $4";
