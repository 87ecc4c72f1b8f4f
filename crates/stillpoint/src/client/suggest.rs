//! What somebody who wrote a name that is not there may have meant.

/// How alike two names are at least, from 0 to 1, by the letters that they share in about the same place (as clap measures
/// verbs and options).
const ALIKE: f64 = 0.75;
/// Most names that are suggested.
const MAX: usize = 3;

/// `did you mean "db1"? ` if there is such a name, else nothing: for the begin of a hint.
pub(crate) fn did_you_mean<'n>(wanted: &str, names: impl IntoIterator<Item = &'n str>) -> String {
    let lower = wanted.to_lowercase();
    let mut near: Vec<(f64, &str)> = Vec::new();
    for name in names {
        let other = name.to_lowercase();
        // One slip of the finger, or one for each four letters.
        let slips = strsim::damerau_levenshtein(&lower, &other);
        let is_alike = strsim::jaro(&lower, &other) >= ALIKE || slips <= (other.chars().count() / 4).max(1);
        let likeness = strsim::normalized_damerau_levenshtein(&lower, &other);
        if is_alike && near.iter().all(|(_, known)| *known != name) {
            near.push((likeness, name));
        }
    }
    near.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    near.truncate(MAX);
    if near.is_empty() {
        return String::new();
    }
    let quoted: Vec<_> = near.iter().map(|(_, name)| format!("{name:?}")).collect();
    format!("did you mean {}? ", quoted.join(" or "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_comes_first_and_what_is_far_is_not_said() {
        assert_eq!(did_you_mean("bd1", ["db1", "web"]), "did you mean \"db1\"? ");
        assert_eq!(
            did_you_mean("DB1", ["db12", "db1", "db1"]),
            "did you mean \"db1\" or \"db12\"? "
        );
        assert_eq!(did_you_mean("nobody", ["db1", "web"]), "");
        assert_eq!(did_you_mean("x", []), "");
        assert_eq!(
            did_you_mean("before upgrde", ["after", "before upgrade"]),
            "did you mean \"before upgrade\"? "
        );
    }
}
