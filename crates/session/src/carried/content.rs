//! Prepared statements under names that are made from their content: sessions with the same statement share it on a server
//! connection, whatever each of them calls it.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use super::search_path::PathId;
use super::shape::Shape;

/// What names made from content begin with.
const PREFIX: &[u8] = b"tl_";

/// Digits of such a name.
const DIGITS: usize = 32;

/// A name made from content.
pub(crate) type ContentName = [u8; PREFIX.len() + DIGITS];

/// Of a limit of statements, the part by which those beyond it are closed at once, so that this is rare.
const SURPLUS_PART: usize = 8;

/// When a statement was sent to be prepared: a place in the order of all that sessions prepare. What a name in SQL stands for
/// may have changed since an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PreparedAt(u64);

impl PreparedAt {
    pub(crate) fn now() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// What decides the meaning of a prepared statement, as 128 bits of a keyed hash: equal contents, equal identities. Nobody
/// who does not know the keys can make two contents that share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ContentId([u64; 2]);

/// It is a hash already.
impl Hash for ContentId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0[0]);
    }
}

/// Takes the hash that a [`ContentId`] is.
#[derive(Debug, Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Content of a statement.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct ContentParts<'a> {
    pub(crate) sql: &'a [u8],
    /// The types that its Parse names.
    pub(crate) types: &'a [u8],
    pub(crate) path: PathId,
    /// Of the session's settings that change how it is read.
    pub(crate) settings: u64,
}

impl ContentId {
    pub(crate) fn of(parts: &ContentParts<'_>) -> Self {
        static KEYS: LazyLock<[RandomState; 2]> = LazyLock::new(Default::default);
        Self(KEYS.each_ref().map(|key| key.hash_one(parts)))
    }

    /// Its size.
    pub(crate) const BYTES: usize = 16;

    pub(crate) fn bytes(self) -> [u8; Self::BYTES] {
        let number = u128::from(self.0[0]) << 64 | u128::from(self.0[1]);
        number.to_be_bytes()
    }

    /// That of [`Self::bytes`].
    pub(crate) fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let number = u128::from_be_bytes(bytes);
        Self([(number >> 64) as u64, number as u64])
    }

    /// A name that no statement has, as no SQL has a NUL in it: to close it does nothing.
    pub(crate) fn never_made() -> &'static ContentName {
        static NAME: LazyLock<ContentName> = LazyLock::new(|| {
            let parts = ContentParts { sql: b"\0", types: b"", path: PathId::default(), settings: 0 };
            ContentId::of(&parts).name()
        });
        &NAME
    }

    /// Its name on a server.
    pub(crate) fn name(self) -> ContentName {
        let mut name = [0; PREFIX.len() + DIGITS];
        let (prefix, digits) = name.split_at_mut(PREFIX.len());
        prefix.copy_from_slice(PREFIX);
        let bytes = self.0.into_iter().flat_map(u64::to_be_bytes);
        for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
            *pair = [byte >> 4, byte & 15].map(|digit| b"0123456789abcdef"[usize::from(digit)]);
        }
        name
    }

    /// The first such name in a text, and where it stands.
    pub(crate) fn found_in(text: &[u8]) -> Option<(Range<usize>, Self)> {
        let whole = PREFIX.len() + DIGITS;
        let found = |(start, window): (usize, &[u8])| {
            let digits = window.strip_prefix(PREFIX)?;
            if !digits.iter().all(u8::is_ascii_hexdigit) {
                return None;
            }
            let number = u128::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
            Some((start..start + whole, Self([(number >> 64) as u64, number as u64])))
        };
        text.windows(whole).enumerate().find_map(found)
    }
}

/// The statements of this kind that a server connection has. Clones are cheap.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contents(Option<Arc<ContentSet>>);

#[derive(Debug, Default)]
struct ContentSet {
    statements: HashMap<ContentId, Arc<SharedContent>, BuildHasherDefault<IdHasher>>,
    /// Counts uses.
    clock: AtomicU32,
    /// Some of them may be of no use any more.
    has_stale: bool,
}

impl Clone for ContentSet {
    fn clone(&self) -> Self {
        let clock = AtomicU32::new(self.clock.load(Ordering::Relaxed));
        Self { statements: self.statements.clone(), clock, has_stale: self.has_stale }
    }
}

#[derive(Debug)]
struct SharedContent {
    validity: Validity,
    shape: Shape,
    made: PreparedAt,
    /// When it was used last, by the clock of its set.
    used: AtomicU32,
}

/// Whether a statement can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Validity {
    Valid,
    /// The server refuses it, as what it needs has changed, or it is not known what it is.
    Stale,
}

/// What a connection has of a content.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ContentThere<'a> {
    Missing,
    /// A statement that takes and returns this, as far as is known, as it was made then.
    Usable(&'a Shape, PreparedAt),
    /// A statement that has to be closed before it is made again.
    Stale,
}

impl Contents {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |set| set.statements.len())
    }

    /// Whether a statement is there, which is used now.
    #[inline]
    pub(crate) fn get(&self, id: ContentId) -> ContentThere<'_> {
        let Some(set) = &self.0 else { return ContentThere::Missing };
        let Some(statement) = set.statements.get(&id) else { return ContentThere::Missing };
        statement.used.store(set.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        match statement.validity {
            Validity::Valid => ContentThere::Usable(&statement.shape, statement.made),
            Validity::Stale => ContentThere::Stale,
        }
    }

    /// The server has made a statement.
    pub(crate) fn put(&mut self, id: ContentId, shape: Shape, made: PreparedAt) {
        self.insert(id, (shape, made), Validity::Valid);
    }

    /// Something is now known of a statement that is there, if it is.
    pub(crate) fn described(&mut self, id: ContentId, shape: &Shape) {
        if shape.is_known()
            && let ContentThere::Usable(known, made) = self.get(id)
            && known != shape
        {
            self.put(id, shape.clone(), made);
        }
    }

    /// The connection has one that is not known to be usable: it is closed before it is made again.
    pub(crate) fn refused(&mut self, id: ContentId) {
        self.insert(id, (Shape::default(), PreparedAt(0)), Validity::Stale);
    }

    fn insert(&mut self, id: ContentId, (shape, made): (Shape, PreparedAt), validity: Validity) {
        let set = Arc::make_mut(self.0.get_or_insert_default());
        let used = AtomicU32::new(set.clock.fetch_add(1, Ordering::Relaxed));
        set.has_stale |= validity == Validity::Stale;
        set.statements.insert(id, Arc::new(SharedContent { validity, shape, made, used }));
    }

    /// A statement was closed.
    pub(crate) fn remove(&mut self, id: ContentId) {
        let Some(set) = &mut self.0 else { return };
        if set.statements.contains_key(&id) {
            Arc::make_mut(set).statements.remove(&id);
        }
        if set.statements.is_empty() {
            self.0 = None;
        }
    }

    /// All of them, in no order.
    pub(crate) fn ids(&self) -> impl Iterator<Item = ContentId> {
        self.0.iter().flat_map(|set| set.statements.keys().copied())
    }

    /// Whether [`Self::surplus`] finds something.
    #[inline]
    pub(crate) fn has_surplus(&self, statements_max: u32) -> bool {
        self.0.as_ref().is_some_and(|set| set.has_stale || set.statements.len() > statements_max as usize)
    }

    /// Those to be closed: those that nobody can use, and those that have not been used for longest where there are more
    /// than this many.
    pub(crate) fn surplus(&self, statements_max: u32) -> Vec<ContentId> {
        let Some(set) = self.0.as_ref().filter(|_| self.has_surplus(statements_max)) else {
            return Vec::new();
        };
        let stale = set.statements.iter().filter(|(_, statement)| statement.validity == Validity::Stale);
        let stale: Vec<_> = stale.map(|(id, _)| *id).collect();
        let max = statements_max as usize;
        if set.statements.len() <= max {
            return stale;
        }
        let now = set.clock.load(Ordering::Relaxed);
        let age = |statement: &SharedContent| now.wrapping_sub(statement.used.load(Ordering::Relaxed));
        let valid = set.statements.iter().filter(|(_, statement)| statement.validity == Validity::Valid);
        let mut by_age: Vec<_> = valid.map(|(id, statement)| (age(statement), *id)).collect();
        by_age.sort_unstable_by(|one, other| other.cmp(one));
        by_age.truncate(by_age.len().saturating_sub(max - max / SURPLUS_PART));
        stale.into_iter().chain(by_age.into_iter().map(|(_, id)| id)).collect()
    }

    /// The surplus was closed.
    pub(crate) fn trim(&mut self, statements_max: u32) {
        if !self.has_surplus(statements_max) {
            return;
        }
        self.surplus(statements_max).into_iter().for_each(|id| self.remove(id));
        if let Some(set) = &mut self.0 {
            Arc::make_mut(set).has_stale = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::carried::shape::RowColumns;

    fn id(sql: &str) -> ContentId {
        let path = PathId::default();
        ContentId::of(&ContentParts { sql: sql.as_bytes(), types: b"", path, settings: 0 })
    }

    fn shape() -> Shape {
        Shape { parameters: Some(Box::default()), columns: Some(RowColumns::None) }
    }

    #[test]
    fn a_name_is_that_of_its_content() {
        let plain = ContentParts { sql: b"select 1", types: b"", path: PathId::default(), settings: 0 };
        assert_eq!(ContentId::of(&plain), id("select 1"));
        for other in [
            ContentParts { sql: b"select 2", ..plain },
            ContentParts { types: b"\0\0\0\x17", ..plain },
            ContentParts { settings: 1, ..plain },
        ] {
            assert_ne!(ContentId::of(&other), id("select 1"), "{other:?}");
        }
        let name = id("select 1").name();
        let text = [&b"prepared statement \""[..], &name, b"\" already exists"].concat();
        assert_eq!(ContentId::found_in(&text), Some((20..20 + name.len(), id("select 1"))));
        assert_eq!(&text[20..20 + name.len()], name);
    }

    #[test]
    fn only_whole_names_are_found() {
        let name = id("x").name();
        assert_eq!(ContentId::found_in(&name[..name.len() - 1]), None);
        assert_eq!(ContentId::found_in(b"tl_"), None);
        assert_eq!(ContentId::found_in(&[PREFIX, &[b'g'; DIGITS]].concat()), None);
        assert_eq!(ContentId::found_in(b"nothing"), None);
        let behind = [b"tl_ tl_0", &name[..]].concat();
        assert_eq!(ContentId::found_in(&behind), Some((8..behind.len(), id("x"))));
    }

    #[test]
    fn the_least_used_are_surplus_from_one_beyond_the_limit() {
        let mut there = Contents::default();
        let ids: Vec<_> = (0..17).map(|n| id(&format!("select {n}"))).collect();
        for id in &ids[..16] {
            there.put(*id, shape(), PreparedAt(1));
        }
        assert!(there.surplus(16).is_empty());
        assert!(matches!(there.get(ids[0]), ContentThere::Usable(..)), "it is used again");
        there.put(ids[16], shape(), PreparedAt(1));
        assert_eq!(there.surplus(16), ids[1..4], "an eighth below the limit");
        let before = there.clone();
        there.trim(16);
        assert_eq!((before.len(), there.len()), (17, 14));
        assert!(matches!(there.get(ids[1]), ContentThere::Missing));
    }

    #[test]
    fn a_refused_statement_is_usable_once_it_is_made_again() {
        let mut there = Contents::default();
        there.put(id("x"), shape(), PreparedAt(1));
        there.refused(id("x"));
        assert!(matches!(there.get(id("x")), ContentThere::Stale));
        there.described(id("x"), &shape());
        assert!(matches!(there.get(id("x")), ContentThere::Stale));
        there.remove(id("x"));
        assert!(there.is_empty());
        there.put(id("x"), Shape::default(), PreparedAt(7));
        there.described(id("x"), &shape());
        assert!(matches!(there.get(id("x")), ContentThere::Usable(known, PreparedAt(7)) if known.is_known()));
    }
}
