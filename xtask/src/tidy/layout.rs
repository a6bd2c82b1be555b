//! Rules of the layout: who knows one backend knows all, and a README is what readers see first.

use crate::{
    stores::STORES,
    tidy::{BACKENDS, tree::Tree},
};

const BACKEND_FILES: [&str; 4] = ["src/lib.rs", "src/lock.rs", "src/error.rs", "src/wait.rs"];

const FRONT_PAGE: &str = "#![doc = include_str!(\"../README.md\")]";

pub(crate) fn backends_look_alike(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for name in backends(tree) {
        for file in BACKEND_FILES {
            if tree.file(&format!("crates/{name}/{file}")).is_none() {
                faults.push(format!("crates/{name}: {file} is missing, every backend has it"));
            }
        }
    }
    faults
}

pub(crate) fn readme_is_the_front_page(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for (dir, _) in tree.members().filter(|(dir, _)| dir.starts_with("crates/")) {
        if tree.file(&format!("{dir}/README.md")).is_none_or(|text| text.trim().is_empty()) {
            faults.push(format!("{dir}: README.md is missing"));
        }
        let lib = tree.file(&format!("{dir}/src/lib.rs")).unwrap_or_default();
        if !lib.lines().any(|line| line == FRONT_PAGE) {
            faults.push(format!("{dir}/src/lib.rs: write `{FRONT_PAGE}`"));
        }
    }
    faults
}

/// Where the harness says how servers are started.
const LAUNCHERS: &str = "crates/glock-harness/src/server/stores";

/// A row in the README's table, and servers to test against.
pub(crate) fn stores_are_in_the_readme(tree: &Tree) -> Vec<String> {
    let readme = tree.file("README.md").unwrap_or_default();
    let launchers = tree.below(LAUNCHERS);
    let mut faults = Vec::new();
    for name in backends(tree) {
        if !readme.lines().any(|line| line.starts_with('|') && line.contains(name)) {
            faults.push(format!("README.md: the table of stores has no row with {name}"));
        }
        let Some(store) = STORES.iter().find(|store| format!("glock-{}", store.name) == name)
        else {
            faults.push(format!("xtask/src/stores.rs: there is no server for {name}"));
            continue;
        };
        let unknown = store
            .servers
            .iter()
            .filter(|server| !launchers.contains(&format!("\"{}\"", server.name)));
        faults.extend(unknown.map(|server| format!("{LAUNCHERS}: {} is missing", server.name)));
    }
    faults
}

fn backends(tree: &Tree) -> impl Iterator<Item = &'static str> {
    let there = |name: &&str| tree.file(&format!("crates/{name}/Cargo.toml")).is_some();
    BACKENDS.iter().copied().filter(there)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CATALOG: (&str, &str) =
        ("crates/glock-harness/src/server/stores/redis.rs", "\"redis7\" \"redis8\" \"valkey8\"");

    #[test]
    fn a_backend_without_its_files() {
        let tree = Tree::of(&[
            ("crates/glock-redis/Cargo.toml", ""),
            ("crates/glock-redis/src/lib.rs", ""),
            ("crates/glock-redis/src/lock.rs", ""),
            ("crates/glock-redis/src/error.rs", ""),
            ("crates/glock-core/Cargo.toml", ""),
        ]);
        assert_eq!(
            backends_look_alike(&tree),
            ["crates/glock-redis: src/wait.rs is missing, every backend has it"]
        );
    }

    #[test]
    fn a_crate_without_a_front_page() {
        let tree = Tree::of(&[
            ("crates/a/Cargo.toml", ""),
            ("crates/a/README.md", "# a"),
            ("crates/a/src/lib.rs", "//! A.\n#![doc = include_str!(\"../README.md\")]\n"),
            ("crates/b/Cargo.toml", ""),
            ("crates/b/src/lib.rs", "//! B.\n"),
            ("xtask/Cargo.toml", ""),
        ]);
        let faults = readme_is_the_front_page(&tree);
        assert_eq!(faults.len(), 2);
        assert!(faults.iter().all(|fault| fault.starts_with("crates/b")), "{faults:?}");
    }

    #[test]
    fn a_store_that_the_readme_does_not_know() {
        let with = |readme| {
            Tree::of(&[("crates/glock-redis/Cargo.toml", ""), ("README.md", readme), CATALOG])
        };
        assert!(stores_are_in_the_readme(&with("| Redis | `glock-redis` | |\n")).is_empty());
        assert_eq!(stores_are_in_the_readme(&with("glock-redis is one\n")).len(), 1);
    }

    #[test]
    fn a_store_without_servers() {
        let rows = ("README.md", "| glock-redis |\n| glock-hazelcast |\n");
        let none = Tree::of(&[("crates/glock-hazelcast/Cargo.toml", ""), rows]);
        assert_eq!(
            stores_are_in_the_readme(&none),
            ["xtask/src/stores.rs: there is no server for glock-hazelcast"]
        );
        let unknown = Tree::of(&[("crates/glock-redis/Cargo.toml", ""), rows]);
        assert_eq!(stores_are_in_the_readme(&unknown).len(), 3);
    }
}
