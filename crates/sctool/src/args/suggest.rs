//! Finds the known name a mistyped one most likely stands for.

/// The closest of `known` to `word`, if it is close enough to be worth naming.
///
/// Close means at most one edit per three characters, so that short words do not match at random.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= limit && *candidate != word)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn names_the_nearest_or_nothing() {
        let known = ["retention", "rate-limit", "location", "dc"];
        for (word, expected) in [
            ("retension", Some("retention")),
            ("ratelimit", Some("rate-limit")),
            ("locaiton", Some("location")),
            ("cd", Some("dc")),
            ("bogus", None),
            ("foo", None),
        ] {
            assert_eq!(nearest(word, known), expected, "{word}");
        }
    }
}
