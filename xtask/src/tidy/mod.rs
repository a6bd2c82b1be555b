//! The rules of the source tree, each a check that a test shows at work.

mod cases;
mod layout;
mod manifest;
mod source;
mod text;
mod tree;

use tree::Tree;

use crate::{Result, shell::say, workspace};

/// The crates that bring a store. They come one after the other; a rule holds for those that are there.
pub(crate) const BACKENDS: [&str; 8] = [
    "glock-redis",
    "glock-postgres",
    "glock-dynamodb",
    "glock-mongodb",
    "glock-etcd",
    "glock-consul",
    "glock-zookeeper",
    "glock-hazelcast",
];

/// Gives one line for each place that breaks it.
type Rule = fn(&Tree) -> Vec<String>;

const RULES: [Rule; 13] = [
    source::says_what_it_is,
    source::files_are_short,
    source::functions_are_short,
    manifest::lints_are_shared,
    manifest::package_fields_are_shared,
    manifest::versions_are_in_the_root,
    manifest::backends_know_only_core,
    manifest::core_knows_nobody,
    layout::backends_look_alike,
    layout::readme_is_the_front_page,
    layout::stores_are_in_the_readme,
    cases::cases_are_listed_and_proven,
    text::no_place_of_this_machine,
];

pub(crate) fn run() -> Result<()> {
    let faults = faults(&Tree::of_workspace(&workspace::root())?);
    if faults.is_empty() {
        say("tidy", &format!("{} rules hold", RULES.len()));
        return Ok(());
    }
    Err(format!("{} places are not tidy:\n  {}", faults.len(), faults.join("\n  ")))
}

fn faults(tree: &Tree) -> Vec<String> {
    RULES.iter().flat_map(|rule| rule(tree)).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_workspace_is_tidy() {
        if let Err(text) = super::run() {
            panic!("{text}");
        }
    }
}
