//! How many crates a user takes in with each of ours, and none of another store.

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use crate::{
    shell::{cargo, read, say},
    stores::Store,
};

const CORE: &str = "glock-core";

/// The most crates in the tree of core, itself included; a store states its own.
const CORE_MAX: usize = 15;

pub(crate) fn run(stores: &[Store]) -> Result<()> {
    let own = stores.iter().map(|store| (store.package(), store.crates_max));
    for (package, most) in own.chain([(CORE.to_owned(), Some(CORE_MAX))]) {
        let arguments = ["tree", "--package", &package, "--edges", "normal", "--prefix", "none"];
        let tree = crates_in(&read(&cargo(arguments.into_iter().chain(["--format", "{p}"])))?);
        say("tree", &format!("{package}: {} crates", tree.len()));
        if let Some(fault) = fault(&package, most, &tree, stores) {
            bail!(fault);
        }
    }
    Ok(())
}

/// Name and version of each; the rest of a line is where it is, or that it was shown before.
fn crates_in(output: &str) -> BTreeSet<String> {
    let lines = output.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect()
}

fn fault(
    package: &str,
    most: Option<usize>,
    tree: &BTreeSet<String>,
    stores: &[Store],
) -> Option<String> {
    if let Some(most) = most.filter(|most| tree.len() > *most) {
        return Some(format!(
            "{package} takes in {} crates: at most {most} are allowed",
            tree.len()
        ));
    }
    let names: BTreeSet<_> = tree.iter().filter_map(|line| line.split(' ').next()).collect();
    let others = stores.iter().filter(|store| store.package() != package);
    let mut drivers = others.filter_map(|store| Some((store, store.driver.as_deref()?)));
    let (owner, driver) = drivers.find(|(_, driver)| names.contains(driver))?;
    Some(format!("{package} takes in {driver}, the driver of {}", owner.title))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stores::load;

    #[test]
    fn a_crate_is_counted_once() {
        let output = "glock-core v0.1.0 (/x/glock-core)\ntokio v1.50.0\nsyn v2.0.1 (*)\nsyn v2.0.1\nsyn v1.0.0\n";
        assert_eq!(crates_in(output).len(), 4);
    }

    #[test]
    fn too_many_crates_and_another_stores_driver_are_faults() {
        let stores = load().unwrap();
        let many = |count: usize| (0..count).map(|n| format!("crate{n} v1.0.0")).collect();
        assert_eq!(fault(CORE, Some(15), &many(15), &stores), None);
        assert!(fault(CORE, Some(15), &many(16), &stores).unwrap().contains("at most 15"));
        assert_eq!(fault("glock-etcd", None, &many(300), &stores), None);
        let tree = crates_in("glock-redis v0.1.0\nredis v1.8.1\nsqlx v0.9.0\nsqlx-postgres v0.9.0");
        assert!(fault("glock-redis", None, &tree, &stores).unwrap().contains("sqlx-postgres"));
        assert!(fault(CORE, None, &crates_in("redis v1.8.1"), &stores).is_some());
    }
}
