//! "Did you mean": the known word nearest to an unknown one.

/// The nearest of `known`, when it is near enough to be worth saying.
pub(super) fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let word = word.to_ascii_lowercase().replace('-', "_");
    known
        .map(|candidate| (strsim::damerau_levenshtein(&word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_of_the_finger_is_recognised() {
        let known = ["max_lag", "tick", "rise"];
        assert_eq!(nearest("max_lagg", known.into_iter()), Some("max_lag"));
        assert_eq!(nearest("max-lag", known.into_iter()), Some("max_lag"));
        assert_eq!(nearest("tikc", known.into_iter()), Some("tick"));
    }

    #[test]
    fn an_unrelated_word_gets_no_suggestion() {
        assert_eq!(nearest("workers", ["max_lag", "tick"].into_iter()), None);
    }
}
