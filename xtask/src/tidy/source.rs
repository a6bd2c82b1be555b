//! Rules of Rust files: each says what it is, and is short.

use crate::tidy::tree::Tree;

const FILE_MAX: usize = 300;
const FUNCTION_MAX: usize = 70;

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

pub(crate) fn functions_are_short(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for (path, text) in tree.rust_files() {
        let lines: Vec<_> = text.lines().collect();
        for start in 0..lines.len() {
            let length = function_length(&lines[start..]);
            if length > FUNCTION_MAX {
                let line = start + 1;
                faults.push(format!(
                    "{path}:{line}: {length} lines, at most {FUNCTION_MAX}: split it"
                ));
            }
        }
    }
    faults
}

/// The lines of the function that begins here, 0 if none does.
///
/// In formatted code a body ends with the first brace that stands as far left as its head.
fn function_length(lines: &[&str]) -> usize {
    let head = lines[0];
    if !is_function(head.trim_start()) {
        return 0;
    }
    let indent = &head[..head.len() - head.trim_start().len()];
    let mut in_head = true;
    for (index, line) in lines.iter().enumerate() {
        let code = line.trim_end();
        if in_head && code.ends_with([';', '}']) {
            return index + 1;
        }
        in_head &= !code.ends_with('{');
        if !in_head && code.strip_prefix(indent) == Some("}") {
            return index + 1;
        }
    }
    lines.len()
}

fn is_function(code: &str) -> bool {
    let words = code.split(' ').take_while(|word| *word != "fn");
    let modifiers: Vec<_> = words.collect();
    let known = |word: &&str| {
        ["async", "const", "unsafe", "extern", "\"C\"", "default"].contains(word)
            || word.starts_with("pub")
    };
    code.split(' ').nth(modifiers.len()) == Some("fn") && modifiers.iter().all(known)
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

    #[test]
    fn a_function_that_is_too_long() {
        let body = |lines: usize| "        if x {\n        }\n".repeat(lines / 2);
        let good = format!("impl A {{\n    fn a() {{\n{}    }}\n}}\n", body(68));
        let bad = format!("impl A {{\n    pub(crate) async fn a() {{\n{}    }}\n}}\n", body(70));
        let tree = Tree::of(&[("a.rs", &good), ("b.rs", &bad)]);
        assert_eq!(functions_are_short(&tree), ["b.rs:2: 72 lines, at most 70: split it"]);
    }

    #[test]
    fn a_function_ends_with_its_own_brace() {
        assert_eq!(function_length(&["fn a();", "fn b() {", "}"]), 1);
        assert_eq!(function_length(&["    fn a(", "        b: u8,", "    );", "}"]), 3);
        assert_eq!(function_length(&["fn a() -> u8 { 1 }", "", "}"]), 1);
        assert_eq!(function_length(&["const fn a(", ") {", "    b();", "}", "}"]), 4);
        assert_eq!(function_length(&["// an fn is here {", "}"]), 0);
    }
}
