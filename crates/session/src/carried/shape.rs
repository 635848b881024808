//! The parameters and columns of a prepared statement, as the client knows or may know them.

use std::hash::{DefaultHasher, Hash, Hasher};

use trunkline_codec::backend::{BackendTag, RowDescription};
use trunkline_codec::frontend::Parse;

/// A statement's parameters and columns, as far as they are known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    pub(crate) parameters: Option<Types>,
    pub(crate) columns: Option<RowColumns>,
}

/// Type OIDs of parameters, four bytes each, as in a Parse.
pub(crate) type Types = Box<[u8]>;

/// The columns of a statement's rows. Two are equal when PostgreSQL would compare them as equal: number, names,
/// type OIDs and type modifiers. Of those only a hash is kept.
/// Source: PostgreSQL 18, src/backend/utils/cache/plancache.c, `RevalidateCachedQuery`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum RowColumns {
    /// The statement returns no rows.
    None,
    Rows(u64),
    /// They are those of a cursor or statement of the moment: nobody compares them.
    OfTheMoment,
}

impl Shape {
    /// What the client's own Parse says; `parse` is the front of its body.
    pub(crate) fn of(parse: &Parse<'_>, body: &[u8]) -> Self {
        let counted = body.get(parse.name.len() + parse.sql.len() + 2..);
        let types = counted.and_then(|counted| {
            let (count, types) = counted.split_first_chunk()?;
            (types.len() == usize::from(u16::from_be_bytes(*count)) * 4).then_some(types)
        });
        Self { parameters: types.and_then(|types| chosen(parse.sql, types)), columns: None }
    }

    /// Of a statement whose columns are those of the moment. The server takes the types that its Parse names.
    pub(crate) fn of_the_moment(types: &[u8]) -> Self {
        Self { parameters: Some(types.into()), columns: Some(RowColumns::OfTheMoment) }
    }

    /// Whether it is known in full, so that another server's can be compared with it.
    pub(crate) fn is_known(&self) -> bool {
        self.parameters.is_some() && self.columns.is_some()
    }
}

/// The types of all parameters, when the Parse names them all: the server chooses none then.
fn chosen(sql: &[u8], types: &[u8]) -> Option<Types> {
    let is_chosen = types.as_chunks::<4>().0.iter().all(|oid| *oid != [0; 4]);
    (is_chosen && highest_parameter(sql) <= types.len() / 4).then(|| types.into())
}

/// The highest number after a dollar sign, anywhere in the text.
fn highest_parameter(sql: &[u8]) -> usize {
    let numbers = sql.split(|byte| *byte == b'$').skip(1).map(|after| {
        let digits = after.iter().take_while(|byte| byte.is_ascii_digit());
        digits.fold(0_usize, |number, digit| {
            number.saturating_mul(10).saturating_add(usize::from(digit - b'0'))
        })
    });
    numbers.max().unwrap_or(0)
}

/// The types in a ParameterDescription.
pub(crate) fn types_of(body: &[u8]) -> Option<Types> {
    let (count, types) = body.split_first_chunk::<2>()?;
    (types.len() == 4 * usize::from(u16::from_be_bytes(*count))).then(|| types.into())
}

/// The columns in a RowDescription or NoData.
pub(crate) fn columns_of(tag: BackendTag, body: &[u8]) -> Option<RowColumns> {
    if tag == BackendTag::NoData {
        return Some(RowColumns::None);
    }
    let mut hasher = DefaultHasher::new();
    for column in RowDescription::parse(body).ok()?.columns() {
        (column.name, column.type_oid, column.type_modifier).hash(&mut hasher);
    }
    Some(RowColumns::Rows(hasher.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(sql: &str, types: &[u32]) -> Vec<u8> {
        let mut body = format!("s\0{sql}\0").into_bytes();
        body.extend_from_slice(&u16::try_from(types.len()).expect("a few").to_be_bytes());
        types.iter().for_each(|oid| body.extend_from_slice(&oid.to_be_bytes()));
        body
    }

    fn row(columns: &[(&str, u32, i32, u32)]) -> Vec<u8> {
        let mut body = u16::try_from(columns.len()).expect("a few").to_be_bytes().to_vec();
        for (name, type_oid, modifier, table) in columns {
            body.extend_from_slice(name.as_bytes());
            body.push(0);
            body.extend_from_slice(&table.to_be_bytes());
            body.extend_from_slice(&[0, 1]);
            body.extend_from_slice(&type_oid.to_be_bytes());
            body.extend_from_slice(&[0, 4]);
            body.extend_from_slice(&modifier.to_be_bytes());
            body.extend_from_slice(&[0, 0]);
        }
        body
    }

    #[test]
    fn parameters_are_known_when_the_server_has_none_to_choose() {
        let known = |sql, types: &[u32]| {
            let body = parse(sql, types);
            let parse = Parse::parse_prefix(&body).expect("its name is short");
            Shape::of(&parse, &body).parameters.is_some()
        };
        assert!(known("select 1", &[]));
        assert!(known("select $1, $2", &[23, 25]));
        assert!(!known("select $1", &[]));
        assert!(!known("select $1, $2", &[23]));
        assert!(!known("select $1, $2", &[23, 0]));
        assert!(known("select $$ $$", &[]), "no number stands behind these");
        assert!(!known("select $99999999999999999999999", &[23]));
    }

    #[test]
    fn columns_are_compared_as_postgresql_compares_them() {
        let of = |columns: &[_]| columns_of(BackendTag::RowDescription, &row(columns));
        let same = of(&[("a", 23, -1, 1000), ("b", 25, -1, 0)]);
        assert!(same.is_some());
        assert_eq!(same, of(&[("a", 23, -1, 2000), ("b", 25, -1, 0)]), "of another table");
        for other in [
            &[("a", 23, -1, 1000)][..],
            &[("b", 25, -1, 0), ("a", 23, -1, 1000)],
            &[("a", 20, -1, 1000), ("b", 25, -1, 0)],
            &[("a", 23, 8, 1000), ("b", 25, -1, 0)],
            &[("A", 23, -1, 1000), ("b", 25, -1, 0)],
            &[],
        ] {
            assert_ne!(same, of(other), "{other:?}");
        }
        assert_eq!(columns_of(BackendTag::NoData, b""), Some(RowColumns::None));
        assert_eq!(columns_of(BackendTag::RowDescription, b"\0\x01a"), None);
    }

    #[test]
    fn types_are_read_whole_or_not_at_all() {
        assert_eq!(types_of(b"\0\x01\0\0\0\x17").as_deref(), Some(&b"\0\0\0\x17"[..]));
        assert_eq!(types_of(b"\0\x02\0\0\0\x17"), None);
        assert_eq!(types_of(b"\0"), None);
    }
}
