//! Names in a certificate's subject that a CA above it must leave to those below it. webpki holds the CA's nameConstraints
//! against the names of subjectAltName alone, and libpq takes a common name where there are none.

use webpki::Error;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, GeneralSubtree, NameConstraints};

/// Whether a CA leaves its common names to a certificate that has no other names of hosts. One without a dot is no name of a
/// host here. Source: OpenSSL 3, crypto/x509/v3_ncons.c, `NAME_CONSTRAINTS_check_CN`.
///
/// # Errors
/// [`Error::NameConstraintViolation`].
pub(crate) fn verify_common_names(
    end_entity: &X509Certificate<'_>,
    signer: &X509Certificate<'_>,
) -> Result<(), Error> {
    let constraints = match signer.name_constraints() {
        Ok(None) => return Ok(()),
        Ok(Some(constraints)) => constraints.value,
        Err(_) => return Err(Error::NameConstraintViolation),
    };
    let has_names = match end_entity.subject_alternative_name() {
        Ok(Some(names)) => {
            names.value.general_names.iter().any(|name| matches!(name, GeneralName::DNSName(_)))
        }
        Ok(None) | Err(_) => false,
    };
    let mut names = end_entity.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    if has_names || names.all(|name| !name.contains('.') || is_left(constraints, name)) {
        Ok(())
    } else {
        Err(Error::NameConstraintViolation)
    }
}

fn is_left(constraints: &NameConstraints<'_>, name: &str) -> bool {
    let is_excluded = hosts(constraints.excluded_subtrees.as_ref()).any(|base| is_below(name, base));
    let mut permitted = hosts(constraints.permitted_subtrees.as_ref()).peekable();
    !is_excluded && (permitted.peek().is_none() || permitted.any(|base| is_below(name, base)))
}

/// The names of hosts among the subtrees.
fn hosts<'a>(subtrees: Option<&'a Vec<GeneralSubtree<'a>>>) -> impl Iterator<Item = &'a str> {
    subtrees.into_iter().flatten().filter_map(|subtree| match subtree.base {
        GeneralName::DNSName(base) => Some(base),
        _ => None,
    })
}

/// Whether a name is this one, or below it.
fn is_below(name: &str, base: &str) -> bool {
    let Some((above, end)) = name.len().checked_sub(base.len()).and_then(|at| name.split_at_checked(at))
    else {
        return false;
    };
    let begins_a_label = above.is_empty() || above.ends_with('.') || base.starts_with('.') || base.is_empty();
    begins_a_label && end.eq_ignore_ascii_case(base)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subtree_is_a_name_and_all_below_it() {
        for (name, base, expected) in [
            ("db.example", "db.example", true),
            ("DB.Example", "db.example", true),
            ("a.db.example", "db.example", true),
            ("a.db.example", ".db.example", true),
            ("db.example", ".db.example", false),
            ("otherdb.example", "db.example", false),
            ("example", "db.example", false),
            ("db.example", "", true),
            ("ü.b", "\u{bc}.b", false),
        ] {
            assert_eq!(is_below(name, base), expected, "{name} {base}");
        }
    }
}
