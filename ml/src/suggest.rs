//! The nearest known name to one that is not known.

/// How alike two names must be (Jaro-Winkler) for one to be suggested for the other.
const MIN_SIMILARITY: f64 = 0.75;

/// `; did you mean "temp"?`, or nothing when no name is near.
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let nearest = known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(similarity, _)| *similarity >= MIN_SIMILARITY)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    nearest.map_or_else(String::new, |(_, candidate)| format!("; did you mean {candidate:?}?"))
}
