//! Names as PostgreSQL compares them: of statements, portals, cursors, savepoints, channels and settings.
//!
//! A name in a message is cut to its first bytes. An identifier in SQL is cut at the end of a character, which only
//! the server's encoding tells: the two are the same for names in ASCII.

use trunkline_codec::frontend::{Bind, Close, Describe, Execute, Parse};

use crate::limits::NAME_BYTES_MAX;

/// Name of the statement and portal that the proxy's own requests run.
pub(crate) const OWN_STATEMENT: &[u8] = b"trunkline: prepare";

/// A name as PostgreSQL would compare it.
pub(crate) type Name = Box<[u8]>;

/// The part of a name in a message that tells it from others.
/// Source: PostgreSQL 18, src/backend/utils/hash/dynahash.c, `hash_create`: keys that are strings are compared up to
/// their size, less the NUL; src/backend/commands/prepare.c, `InitQueryHashTable`, and
/// src/backend/utils/mmgr/portalmem.c, `EnablePortalManager`: that size is `NAMEDATALEN`.
#[inline]
pub(crate) fn compared(name: &[u8]) -> &[u8] {
    &name[..name.len().min(NAME_BYTES_MAX)]
}

/// Whether [`compared`] may end inside of a character.
#[inline]
pub(crate) fn may_break(name: &[u8]) -> bool {
    name.len() > NAME_BYTES_MAX && !compared(name).is_ascii()
}

/// An identifier of SQL as the server cuts it; `None` where its encoding decides.
/// Source: PostgreSQL 18, src/backend/parser/scansup.c, `truncate_identifier`.
pub(crate) fn identifier(mut name: Vec<u8>) -> Option<Name> {
    if may_break(&name) {
        return None;
    }
    name.truncate(NAME_BYTES_MAX);
    Some(name.into())
}

/// The same in a database in UTF-8.
pub(crate) fn cut_in_utf8(name: &[u8]) -> &[u8] {
    let is_inside = |at: usize| name.get(at).is_some_and(|byte| matches!(byte, 0x80..=0xBF));
    let end = (0..=name.len().min(NAME_BYTES_MAX)).rev().find(|at| !is_inside(*at));
    &name[..end.unwrap_or_default()]
}

/// A Parse with its name as it is compared.
#[inline]
pub(crate) fn parse_of(body: &[u8]) -> Option<Parse<'_>> {
    let parse = Parse::parse_prefix(body)?;
    Some(Parse { name: compared(parse.name), ..parse })
}

/// A Bind with its names as they are compared.
#[inline]
pub(crate) fn bind_of(body: &[u8]) -> Option<Bind<'_>> {
    let Bind { portal, statement } = Bind::parse_prefix(body)?;
    Some(Bind { portal: compared(portal), statement: compared(statement) })
}

/// A Describe with its name as it is compared.
pub(crate) fn describe_of(body: &[u8]) -> Option<Describe<'_>> {
    let Describe { kind, name } = Describe::parse(body).ok()?;
    Some(Describe { kind, name: compared(name) })
}

/// A Close with its name as it is compared.
pub(crate) fn close_of(body: &[u8]) -> Option<Close<'_>> {
    let Close { kind, name } = Close::parse(body).ok()?;
    Some(Close { kind, name: compared(name) })
}

/// The portal of an Execute, as it is compared.
#[inline]
pub(crate) fn executed_portal(body: &[u8]) -> Option<&[u8]> {
    Execute::parse(body).ok().map(|execute| compared(execute.portal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_to_63_bytes() {
        let long = "n".repeat(NAME_BYTES_MAX + 1);
        let cut = &long.as_bytes()[..NAME_BYTES_MAX];
        assert_eq!(compared(long.as_bytes()), cut);
        assert_eq!(compared(cut), cut);
        assert_eq!(identifier(long.clone().into_bytes()).as_deref(), Some(cut));
        assert_eq!(cut_in_utf8(long.as_bytes()), cut);
        let body = [long.as_bytes(), b"\0", long.as_bytes(), b"\0\0\0\0\0\0\0"].concat();
        assert_eq!(bind_of(&body), Some(Bind { portal: cut, statement: cut }));
    }

    #[test]
    fn where_an_identifier_ends_is_told_by_its_encoding() {
        let inside = format!("{}\u{e9}", "n".repeat(NAME_BYTES_MAX - 1));
        assert!(may_break(inside.as_bytes()) && identifier(inside.clone().into_bytes()).is_none());
        assert_eq!(cut_in_utf8(inside.as_bytes()), &inside.as_bytes()[..NAME_BYTES_MAX - 1]);
        let fits = format!("{}\u{e9}", "n".repeat(NAME_BYTES_MAX - 2));
        assert_eq!(identifier(fits.clone().into_bytes()).as_deref(), Some(fits.as_bytes()));
        assert_eq!(cut_in_utf8(fits.as_bytes()), fits.as_bytes());
        assert_eq!(cut_in_utf8(&[0x80; 70]), b"");
    }
}
