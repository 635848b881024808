//! User-defined functions and their effects on a session that calls them.
//!
//! The caller reads them. It publishes a [`FunctionCatalog`] for each database in a
//! [`Functions`], which the sessions of that database share.

mod catalog;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use arc_swap::{ArcSwap, Guard};
use atomic_waker::AtomicWaker;

use crate::limits::FUNCTION_CHANGES_KEPT;
use crate::sql::function_effect::FunctionEffect;
use crate::sql::made::Made;

pub(crate) use catalog::Called;
pub use catalog::{EffectsByName, EventTriggers, FunctionCatalog, UnlistedFunctions};

/// SQL for a value, a text, that changes whenever a user-defined function is created, replaced, altered or dropped. The same
/// is asked of the server on which a session has called functions, under whatever `search_path` that has.
pub const FUNCTIONS_FINGERPRINT: &str = "\
(SELECT pg_catalog.concat_ws(' ', pg_catalog.count(*), pg_catalog.sum(pg_catalog.hashtextextended(\
pg_catalog.concat_ws(' ', p.oid, p.xmin), 0))) FROM pg_catalog.pg_proc p \
WHERE p.oid OPERATOR(pg_catalog.>=) '16384'::pg_catalog.oid)";

/// Whether a server has the functions that the last look has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FingerprintComparison {
    Same,
    Other,
    /// No look has read any.
    Unknown,
}

/// The functions of one database as they are known now; shared by its sessions and the reader.
///
/// Looks are numbered. A function that is unknown to a session is known by the end of a look that began later.
#[derive(Debug)]
pub struct Functions {
    /// Tells the databases apart.
    number: u64,
    catalog: ArcSwap<FunctionCatalog>,
    /// Counts the catalogs.
    generation: AtomicU64,
    watches_words: AtomicBool,
    /// A session has called a function since the last [`Self::take_use`].
    is_used: AtomicBool,
    /// A session waits for the next look.
    is_awaited: AtomicBool,
    /// Waits for that, in [`Self::poll_wanted`].
    reader: AtomicWaker,
    looks_begun: AtomicU64,
    looks_done: AtomicU64,
    /// The catalog is current after the look of this number.
    look_needed: AtomicU64,
    /// The last look that found event triggers enabled; 0 for none.
    event_triggers_seen: AtomicU64,
    /// What sessions have created or changed is known after the look of this number.
    change_needed: AtomicU64,
    /// What that may be. Whoever changes it, the number above or the mark below holds it.
    made: Mutex<Made>,
    /// See [`Self::reading_mark`].
    reading_mark: AtomicU64,
    /// Whether there are looks at all.
    watch: FunctionWatch,
    changes: ArcSwap<Vec<ChangedFunction>>,
    /// A hash of [`FUNCTIONS_FINGERPRINT`] by the last look; [`NO_FINGERPRINT`] when that has read none.
    fingerprint: AtomicU64,
    /// The last look that could not read the functions.
    unreadable: AtomicU64,
    /// A session wants to know what is plain.
    pub(super) plainness_wanted: AtomicBool,
}

/// Whether anybody looks at the functions of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FunctionWatch {
    Watched,
    Never,
}

/// The number of a look that nobody takes: it has ended, and has told nothing.
pub(crate) const NO_LOOK: u64 = 0;

/// The [`Functions::reading_mark`] while a look is due for what sessions have made. No generation has this number.
const CHANGE_AHEAD: u64 = u64::MAX;

/// Stands in [`ChangedFunction`] for the name of what runs without one, such as a cast, or by an operator.
const ANY_NAME: u64 = 0;

/// Stands for the hash of a fingerprint that is not known.
const NO_FINGERPRINT: u64 = 0;

/// A function whose effect has grown since the look before.
#[derive(Clone, Debug)]
pub(crate) struct ChangedFunction {
    /// The number of the look that found it.
    pub(crate) look: u64,
    /// The hash of its name.
    pub(crate) name: u64,
    pub(crate) effect: Arc<FunctionEffect>,
}

impl ChangedFunction {
    /// Whether what has a name of this hash may run it.
    pub(crate) fn may_be_run_by(&self, name: u64) -> bool {
        self.name == name || self.name == ANY_NAME
    }
}

/// FNV-1a: names are short, and a collision gains an attacker nothing.
pub(crate) fn hash_of(name: &[u8]) -> u64 {
    name.iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

impl Functions {
    /// With the first catalog, before the first look.
    #[must_use]
    pub fn new(catalog: FunctionCatalog) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        Self {
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            watches_words: AtomicBool::new(catalog.watches_statements()),
            catalog: ArcSwap::from_pointee(catalog),
            generation: AtomicU64::new(0),
            is_used: AtomicBool::new(false),
            is_awaited: AtomicBool::new(false),
            reader: AtomicWaker::new(),
            looks_begun: AtomicU64::new(0),
            looks_done: AtomicU64::new(0),
            look_needed: AtomicU64::new(1),
            event_triggers_seen: AtomicU64::new(0),
            change_needed: AtomicU64::new(0),
            made: Mutex::default(),
            reading_mark: AtomicU64::new(0),
            watch: FunctionWatch::Watched,
            changes: ArcSwap::default(),
            fingerprint: AtomicU64::new(NO_FINGERPRINT),
            unreadable: AtomicU64::new(0),
            plainness_wanted: AtomicBool::new(false),
        }
    }

    /// Functions that nobody will look at: nothing waits for a look.
    #[must_use]
    pub fn never_looked_at(catalog: FunctionCatalog) -> Self {
        Self { watch: FunctionWatch::Never, ..Self::new(catalog) }
    }

    /// The reader begins a look; [`Self::look_ended`] ends it.
    pub fn look_begins(&self) -> u64 {
        // First: a session that sees this look begun waits for the next one, and its wish must not be erased.
        self.is_awaited.store(false, Ordering::Release);
        self.looks_begun.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The look of this number has ended; `catalog` is the new one if something has changed.
    pub fn look_ended(&self, number: u64, catalog: Option<FunctionCatalog>) {
        if let Some(catalog) = catalog {
            self.note_changes(number, &catalog);
            self.catalog.store(Arc::new(catalog));
            self.generation.fetch_add(1, Ordering::AcqRel);
        }
        self.watches_words.store(self.catalog.load().watches_statements(), Ordering::Release);
        self.looks_done.store(number, Ordering::Release);
        let mut made = self.made();
        let mark = if self.is_change_ahead() {
            self.watches_words.store(true, Ordering::Release);
            CHANGE_AHEAD
        } else {
            *made = Made::Nothing;
            self.generation()
        };
        self.reading_mark.store(mark, Ordering::Release);
    }

    /// What sessions have created or changed, and the next look knows.
    pub(crate) fn made(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a session compares with the [`Self::generation`] that it has read its statements with: another number while they
    /// have to be read again, or may run what the next look knows.
    #[inline]
    pub(crate) fn reading_mark(&self) -> u64 {
        self.reading_mark.load(Ordering::Relaxed)
    }

    /// Whether a look is due for what sessions have created or changed.
    pub(crate) fn is_change_ahead(&self) -> bool {
        self.looks_done.load(Ordering::Acquire) < self.change_needed.load(Ordering::Acquire)
    }

    /// The look of this number could not read the functions: earlier calls are unknown, and later ones count by
    /// `catalog`.
    pub fn look_failed(&self, number: u64, catalog: FunctionCatalog) {
        self.unreadable.store(number, Ordering::Release);
        self.look_ended(number, Some(catalog));
    }

    /// The look of this number has found event triggers that are enabled. Call it before [`Self::look_ended`].
    pub fn have_event_triggers(&self, number: u64) {
        self.event_triggers_seen.store(number, Ordering::Release);
    }

    /// The number of the last such look; 0 for none.
    pub(crate) fn event_triggers_seen(&self) -> u64 {
        self.event_triggers_seen.load(Ordering::Acquire)
    }

    /// The number of the last look that could not read them.
    pub(crate) fn unreadable_look(&self) -> u64 {
        self.unreadable.load(Ordering::Acquire)
    }

    /// What the last look has read has this [`FUNCTIONS_FINGERPRINT`]; `None` when it could not read it. Call it behind
    /// [`Self::look_ended`]: who finds this fingerprint on a server finds what that has noted.
    pub fn have_fingerprint(&self, fingerprint: Option<&str>) {
        let hash = fingerprint.map_or(NO_FINGERPRINT, |fingerprint| hash_of(fingerprint.as_bytes()));
        self.fingerprint.store(hash, Ordering::Release);
    }

    /// Compares what a server has told.
    pub(crate) fn compare(&self, told: &[u8]) -> FingerprintComparison {
        match self.fingerprint.load(Ordering::Acquire) {
            NO_FINGERPRINT => FingerprintComparison::Unknown,
            read if read == hash_of(told) => FingerprintComparison::Same,
            _other => FingerprintComparison::Other,
        }
    }

    /// By name also of the first look: SQL before it may have used what a session had just made.
    fn note_changes(&self, look: u64, catalog: &FunctionCatalog) {
        let before = self.catalog.load();
        // One that was dropped and created again may have been harmless before.
        let is_more = |before: Option<&Arc<FunctionEffect>>, effect: &Arc<FunctionEffect>| {
            effect.changes_session() && before.is_none_or(|before| before != effect)
        };
        let changed = |name: u64, effect: &Arc<FunctionEffect>| ChangedFunction {
            look,
            name,
            effect: Arc::clone(effect),
        };
        let by_name = |now: &EffectsByName, before: &EffectsByName, is_named: bool| -> Vec<ChangedFunction> {
            let more = now.iter().filter(|(name, effect)| is_more(before.get(*name), effect));
            more.map(|(name, effect)| changed(if is_named { hash_of(name) } else { ANY_NAME }, effect))
                .collect()
        };
        let mut found = by_name(&catalog.functions, &before.functions, true);
        found.extend(by_name(&catalog.words, &before.words, true));
        if look > 1 {
            let everything = catalog.everything.iter();
            let everything = everything.filter(|effect| is_more(before.everything.as_ref(), effect));
            found.extend(by_name(&catalog.operators, &before.operators, false));
            found.extend(everything.map(|effect| changed(ANY_NAME, effect)));
        }
        let mut changes = Vec::clone(&self.changes.load());
        changes.extend(found);
        changes.drain(..changes.len().saturating_sub(FUNCTION_CHANGES_KEPT));
        self.changes.store(Arc::new(changes));
    }

    pub(crate) fn changes(&self) -> Guard<Arc<Vec<ChangedFunction>>> {
        self.changes.load()
    }

    /// The reader has stopped looking until a session calls a function, or cannot look: the catalog may be old.
    pub fn is_not_watched(&self) {
        let next = self.looks_begun.load(Ordering::Acquire) + 1;
        self.look_needed.fetch_max(next, Ordering::AcqRel);
    }

    /// A session has created or changed functions, or objects that may call them: it waits for the next look.
    pub(crate) fn are_changed(&self, made: &Made) {
        self.is_not_watched();
        self.may_be_changed(made);
    }

    /// The same may be. Whoever names nothing of that waits for nothing.
    pub(crate) fn may_be_changed(&self, made: &Made) {
        if *made == Made::Anything {
            self.is_not_watched();
        }
        {
            let mut all = self.made();
            all.add(made);
            let next = self.looks_begun.load(Ordering::Acquire) + 1;
            self.change_needed.fetch_max(next, Ordering::AcqRel);
            self.watches_words.store(true, Ordering::Release);
            self.reading_mark.store(CHANGE_AHEAD, Ordering::Release);
        }
        self.ask_for_look();
    }

    fn ask_for_look(&self) {
        if !self.is_awaited.swap(true, Ordering::AcqRel) {
            self.reader.wake();
        }
    }

    /// Ready once a session waits for a look that has not begun, or, `if_used`, has called a function since the last
    /// [`Self::take_use`]. One task alone may wait.
    pub fn poll_wanted(&self, cx: &mut Context<'_>, if_used: bool) -> Poll<()> {
        let is_wanted = || self.is_awaited() || (if_used && self.is_used.load(Ordering::Relaxed));
        if !is_wanted() {
            self.reader.register(cx.waker());
        }
        if is_wanted() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Whether a session has called a function since the last call of this.
    pub fn take_use(&self) -> bool {
        self.is_used.swap(false, Ordering::Relaxed)
    }

    /// Whether a session waits for a look that has not begun.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.is_awaited.load(Ordering::Relaxed)
    }

    pub(crate) fn load(&self) -> Guard<Arc<FunctionCatalog>> {
        self.keep_in_use();
        self.catalog.load()
    }

    /// The reader goes on looking.
    #[inline]
    pub(crate) fn keep_in_use(&self) {
        if !self.is_used.load(Ordering::Relaxed) {
            self.is_used.store(true, Ordering::Relaxed);
            self.reader.wake();
        }
    }

    /// Whether SQL without calls must be searched, too.
    #[inline]
    pub(crate) fn watches_words(&self) -> bool {
        self.watches_words.load(Ordering::Relaxed)
    }

    /// Another one for each, as long as the process runs.
    #[inline]
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    pub(crate) fn is_current(&self) -> bool {
        self.looks_done.load(Ordering::Acquire) >= self.look_needed.load(Ordering::Acquire)
    }

    /// The number of the look after which the functions called now are known. The session waits for it. [`NO_LOOK`] where
    /// there will be none.
    pub(crate) fn next_look(&self) -> u64 {
        let number = self.some_look();
        self.ask_for_look();
        number
    }

    /// The same, for a session that does not wait.
    pub(crate) fn some_look(&self) -> u64 {
        match self.watch {
            FunctionWatch::Watched => self.looks_begun.load(Ordering::Acquire) + 1,
            FunctionWatch::Never => NO_LOOK,
        }
    }

    /// The number of the last look that has ended: its results are in the catalog.
    pub(crate) fn looks_done(&self) -> u64 {
        self.looks_done.load(Ordering::Acquire)
    }

    pub(crate) fn has_looked(&self, number: u64) -> bool {
        self.looks_done.load(Ordering::Acquire) >= number
    }
}

#[cfg(test)]
mod tests;
