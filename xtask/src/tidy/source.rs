//! Rules of Rust files: each says what it is, and is short. Clippy counts the lines of functions.

use crate::tidy::tree::Tree;

const FILE_MAX: usize = 300;

pub(crate) fn says_what_it_is(tree: &Tree) -> Vec<String> {
    let silent = tree.rust_files().filter(|(_, text)| !text.starts_with("//! "));
    silent.map(|(path, _)| format!("{path}: begin with `//!` and one sentence")).collect()
}

pub(crate) fn files_are_short(tree: &Tree) -> Vec<String> {
    let counted = tree.rust_files().map(|(path, text)| (path, text.lines().count()));
    let long = counted.filter(|(_, lines)| *lines > FILE_MAX);
    long.map(|(path, lines)| format!("{path}: {lines} lines, at most {FILE_MAX}: split it"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_does_not_say_what_it_is() {
        let tree = Tree::of(&[("a.rs", "//! Good.\n"), ("b.rs", "use a;\n"), ("c.md", "x")]);
        assert_eq!(says_what_it_is(&tree), ["b.rs: begin with `//!` and one sentence"]);
    }

    #[test]
    fn a_file_that_is_too_long() {
        let tree = Tree::of(&[("a.rs", &"\n".repeat(300)), ("b.rs", &"\n".repeat(301))]);
        let faults = files_are_short(&tree);
        assert!(faults.len() == 1 && faults[0].starts_with("b.rs: 301"), "{faults:?}");
    }
}
