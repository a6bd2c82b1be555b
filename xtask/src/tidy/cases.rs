//! Rules of the conformance suite: each case is run, and a broken lock shows that it can fail.

use crate::tidy::tree::Tree;

const CASES: &str = "crates/glock-testing/src/cases/";
const TESTING: &str = "crates/glock-testing/src/";

/// One file, or a directory of them.
const DETECTS: &str = "crates/glock-testing/tests/detects";

pub(crate) fn cases_are_listed_and_proven(tree: &Tree) -> Vec<String> {
    let files = || tree.rust_files().filter(|(path, _)| path.starts_with(CASES));
    if files().next().is_none() {
        return Vec::new();
    }
    let own = tree.rust_files().filter(|(path, _)| path.starts_with(TESTING));
    let listed: String =
        own.filter(|(_, text)| text.lines().any(is_list)).map(|(_, text)| text).collect();
    let proven = tree.below(DETECTS);
    let mut faults = Vec::new();
    for (path, text) in files() {
        for case in text.lines().filter_map(case_in) {
            if !has_word(&listed, case) {
                faults.push(format!("{path}: `conformance!` does not list {case}"));
            }
            if !has_word(&proven, case) {
                faults.push(format!("{path}: no broken lock in {DETECTS}.rs fails {case}"));
            }
        }
    }
    faults
}

/// Whether the line begins a list of cases: `conformance!`, or `admin_conformance!`.
fn is_list(line: &str) -> bool {
    line.starts_with("macro_rules! ") && line.contains("conformance {")
}

/// The name of the case that the line begins.
fn case_in(line: &str) -> Option<&str> {
    line.trim_start().strip_prefix("pub async fn ")?.split(['(', '<']).next()
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|letter: char| !letter.is_alphanumeric() && letter != '_').any(|found| found == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASE: (&str, &str) = (
        "crates/glock-testing/src/cases/expiry.rs",
        "//! Expiry.\npub async fn an_expired_lease_is_dead<F: Fixture>(fixture: &F) {}\nasync fn helper() {}\n",
    );
    const LIST: (&str, &str) = (
        "crates/glock-testing/src/macros.rs",
        "macro_rules! conformance {\n an_expired_lease_is_dead,\n",
    );
    const PROOF: (&str, &str) =
        ("crates/glock-testing/tests/detects.rs", "fails(an_expired_lease_is_dead)");

    #[test]
    fn a_case_that_is_listed_and_proven_is_fine() {
        assert!(cases_are_listed_and_proven(&Tree::of(&[CASE, LIST, PROOF])).is_empty());
        assert!(cases_are_listed_and_proven(&Tree::of(&[LIST])).is_empty());
    }

    #[test]
    fn a_case_that_nobody_runs() {
        let other = (LIST.0, "macro_rules! conformance {\n an_expired_lease_is_dead_too,\n");
        let faults = cases_are_listed_and_proven(&Tree::of(&[CASE, other, PROOF]));
        assert!(faults.len() == 1 && faults[0].contains("does not list"), "{faults:?}");
    }

    #[test]
    fn a_case_that_no_broken_lock_fails() {
        let faults = cases_are_listed_and_proven(&Tree::of(&[CASE, LIST]));
        assert!(faults.len() == 1 && faults[0].contains("no broken lock"), "{faults:?}");
    }
}
