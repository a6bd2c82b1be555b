//! The rules of the source tree, each a check that a test shows at work.

mod cases;
mod imports;
mod layout;
mod manifest;
mod modules;
mod source;
mod text;
mod tree;

use anyhow::{Result, bail};
use tree::Tree;

use crate::{shell::say, workspace};

/// Gives one line for each place that breaks it.
type Rule = fn(&Tree) -> Vec<String>;

const RULES: [Rule; 15] = [
    source::says_what_it_is,
    source::files_are_short,
    imports::files_import_in_no_circle,
    manifest::lints_are_shared,
    manifest::package_fields_are_shared,
    manifest::versions_are_in_the_root,
    manifest::stores_know_only_core,
    manifest::core_knows_no_store,
    layout::stores_look_alike,
    layout::tests_look_alike,
    layout::readme_is_the_front_page,
    layout::locks_belong_to_stores,
    layout::stores_are_named,
    cases::cases_are_listed_and_proven,
    text::no_place_of_this_machine,
];

pub(crate) fn run() -> Result<()> {
    let tree = Tree::of_workspace(&workspace::root())?;
    let faults: Vec<_> = RULES.iter().flat_map(|rule| rule(&tree)).collect();
    if faults.is_empty() {
        say("tidy", &format!("{} rules hold", RULES.len()));
        return Ok(());
    }
    bail!("{} places are not tidy:\n  {}", faults.len(), faults.join("\n  "))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_workspace_is_tidy() {
        if let Err(error) = super::run() {
            panic!("{error:#}");
        }
    }
}
