//! `trunkline init-sql`.

use crate::{Exit, terminal};

const AFTER: &str = "\
Examples:
  trunkline init-sql | psql -X -h PRIMARY -U postgres -d postgres
      psql asks for the role's password at the end
  trunkline init-sql > init.sql && psql -X -h PRIMARY -U postgres -f init.sql
  trunkline init-sql --verify none
      only for health probes: [auth] mode = \"login\" or \"relay\"

Run it once, on the primary, as a superuser, in the database that [monitor] dbname names (postgres unless it is set).
Nothing is connected to. The SQL is for psql and for PostgreSQL 14 to 18; it changes all of it or nothing.
A role that is there already is kept, with its password.
By hand, without psql: leave out the lines with a backslash, and set a password with ALTER ROLE.

Exit status: 0 printed, 2 wrong command line.";

/// The role when none is named.
pub(super) const DEFAULT_ROLE: &str = "trunkline_monitor";

/// Longest name of a role, in bytes. Source: PostgreSQL 18, src/include/pg_config_manual.h, `NAMEDATALEN` - 1.
const ROLE_BYTES_MAX: usize = 63;

const BEGIN: &str = r"-- The monitoring role of Trunkline. Once, on the primary, as a superuser, in the database that
-- [monitor] dbname names (postgres unless it is set).
\set ON_ERROR_STOP on
SELECT NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ROLE_TEXT') AS role_is_new \gset
BEGIN;

\if :role_is_new
CREATE ROLE ROLE_NAME LOGIN;
\endif
GRANT pg_monitor TO ROLE_NAME;
";

const FUNCTION: &str = r#"
-- For [auth] mode = "verify": the stored secret of one user, through a function that this role alone may call.
-- The proxy finds the function by its name: [auth] query stays unset.
CREATE SCHEMA trunkline;
CREATE FUNCTION trunkline.user_secret(wanted text)
    RETURNS TABLE (name text, secret text, is_expired boolean, can_login boolean)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$
        SELECT rolname::text, rolpassword, coalesce(rolvaliduntil < now(), false), rolcanlogin
        FROM pg_authid WHERE rolname = wanted
    $$;
REVOKE ALL ON FUNCTION trunkline.user_secret(text) FROM PUBLIC;
GRANT USAGE ON SCHEMA trunkline TO ROLE_NAME;
GRANT EXECUTE ON FUNCTION trunkline.user_secret(text) TO ROLE_NAME;
"#;

const PG_AUTHID: &str = r#"
-- For [auth] mode = "verify": the role reads every stored secret itself. [auth] query stays unset.
GRANT SELECT ON pg_authid TO ROLE_NAME;
"#;

const END: &str = r"
COMMIT;

-- psql asks for a new role's password and sends only its hash. Trunkline takes it from TRUNKLINE__MONITOR__PASSWORD.
\if :role_is_new
\password ROLE_NAME
\endif
";

/// Flags of `trunkline init-sql`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER)]
pub(crate) struct InitSql {
    /// How the role reads stored secrets, which [auth] mode = "verify" needs
    #[arg(long, value_name = "HOW", default_value = "function")]
    verify: SecretAccess,
    /// Name of the role, as in [monitor] user
    #[arg(long, value_name = "NAME", default_value = DEFAULT_ROLE, value_parser = role_name)]
    user: String,
}

/// How the monitoring role reads stored secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum SecretAccess {
    /// One at a time, through a SECURITY DEFINER function
    Function,
    /// All of them, by SELECT on pg_authid
    #[value(name = "pg_authid")]
    PgAuthid,
    /// Not at all
    None,
}

impl InitSql {
    pub(crate) fn run(self) -> Exit {
        terminal::print(&recipe(self.verify, &self.user));
        Exit::Success
    }
}

/// The SQL, for psql.
pub(super) fn recipe(verify: SecretAccess, role: &str) -> String {
    let secrets = match verify {
        SecretAccess::Function => FUNCTION,
        SecretAccess::PgAuthid => PG_AUTHID,
        SecretAccess::None => "",
    };
    let (name, text) = (identifier(role), role.replace('\'', "''"));
    // A name may have either word in it, so it is put in last.
    let write = |part: &str| {
        let parts: Vec<String> =
            part.split("ROLE_TEXT").map(|part| part.replace("ROLE_NAME", &name)).collect();
        parts.join(&text)
    };
    [BEGIN, secrets, END].map(write).concat()
}

/// A name as SQL and psql want it: in quotes, but for the default one.
pub(super) fn identifier(name: &str) -> String {
    if name == DEFAULT_ROLE { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// A name that a role may have, on one line.
pub(super) fn role_name(name: &str) -> Result<String, String> {
    if name.is_empty() || name.len() > ROLE_BYTES_MAX {
        return Err(format!("a role's name has 1 to {ROLE_BYTES_MAX} bytes"));
    }
    if name.chars().any(char::is_control) {
        return Err("a role's name has no control characters".to_owned());
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_in_the_recipe() {
        for verify in [SecretAccess::Function, SecretAccess::PgAuthid, SecretAccess::None] {
            let sql = recipe(verify, DEFAULT_ROLE);
            assert!(!sql.contains("PASSWORD '"), "{sql}");
            assert!(sql.ends_with("\n\\password trunkline_monitor\n\\endif\n"), "{sql}");
            assert!(!sql.contains("ROLE_NAME") && !sql.contains("ROLE_TEXT"), "{sql}");
        }
    }

    #[test]
    fn a_name_is_quoted_and_stays_one_name() {
        let sql = recipe(SecretAccess::PgAuthid, "a\" LOGIN; --");
        assert!(sql.contains("GRANT SELECT ON pg_authid TO \"a\"\" LOGIN; --\";"), "{sql}");
        let sql = recipe(SecretAccess::None, "it's ROLE_TEXT");
        assert!(
            sql.contains("rolname = 'it''s ROLE_TEXT')") && sql.contains("CREATE ROLE \"it's ROLE_TEXT\""),
            "{sql}"
        );
        assert!(role_name("two\nlines").is_err() && role_name("").is_err());
        assert!(role_name(&"r".repeat(ROLE_BYTES_MAX)).is_ok());
        assert!(role_name(&"r".repeat(ROLE_BYTES_MAX + 1)).is_err());
    }
}
