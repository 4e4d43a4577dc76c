//! The known name that is most like an unknown one.

/// The nearest of `known`, if it is near enough to be what was meant: at most a third of the
/// name's letters differ.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, found) = known
        .into_iter()
        .map(|other| (distance(name, other), other))
        .min_by_key(|(d, _)| *d)?;
    (distance <= name.chars().count().div_ceil(3)).then_some(found)
}

/// How many letters must be changed, added or taken away to get from one name to the other.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, from) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in right.iter().enumerate() {
            let changed = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_recognised_and_another_word_is_not() {
        let known = ["client.listen_urls", "client.cors", "log.level"];
        assert_eq!(
            nearest("client.listen_url", known),
            Some("client.listen_urls")
        );
        assert_eq!(nearest("log.levle", known), Some("log.level"));
        assert_eq!(nearest("something", known), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
