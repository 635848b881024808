//! Random bytes of the operating system, of which many are fetched at once: a login needs some, and a system call for each
//! is a good part of what it costs.

use std::cell::RefCell;

use zeroize::Zeroize;

/// Bytes fetched at once.
const FETCHED_BYTES: usize = 1152;

thread_local! {
    static FETCHED: RefCell<FetchedBytes> = const { RefCell::new(FetchedBytes { bytes: [0; FETCHED_BYTES], left: 0 }) };
}

/// Of these, the first `left` are unused. What was given out is erased.
struct FetchedBytes {
    bytes: [u8; FETCHED_BYTES],
    left: usize,
}

/// `N` random bytes that nobody else gets. `N` is at most 1152.
///
/// # Errors
/// When the operating system gives none.
pub fn random<const N: usize>() -> Result<[u8; N], getrandom::Error> {
    const { assert!(N <= FETCHED_BYTES, "no more than is fetched at once") };
    FETCHED.with_borrow_mut(|fetched| {
        if fetched.left < N {
            getrandom::fill(&mut fetched.bytes)?;
            fetched.left = FETCHED_BYTES;
        }
        let rest = fetched.left - N;
        let mut taken = [0; N];
        taken.copy_from_slice(&fetched.bytes[rest..fetched.left]);
        fetched.bytes[rest..fetched.left].zeroize();
        fetched.left = rest;
        Ok(taken)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_random_byte_is_given_out_twice() {
        let taken: Vec<[u8; 32]> = (0..100).map(|_| random().expect("random bytes")).collect();
        let distinct: std::collections::HashSet<_> =
            taken.iter().flat_map(|key| key.as_chunks::<8>().0).collect();
        assert_eq!(distinct.len(), 100 * 32 / 8);
    }

    #[test]
    fn what_is_left_is_not_enough_and_all_is_fetched_anew() {
        let first: [u8; FETCHED_BYTES - 8] = random().expect("random bytes");
        let next: [u8; 16] = random().expect("random bytes");
        assert!(first.windows(16).all(|seen| seen != next), "of the same fetch");
        assert_ne!(next, [0; 16], "erased ones");
    }
}
