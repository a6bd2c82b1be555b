//! How many crates a user takes in with each of ours, and none of another store.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use cargo_metadata::Package;

use crate::{
    shell::{cargo, read, say},
    stores::Store,
    workspace,
};

const CORE: &str = "glock-core";

/// The most crates in the tree of core, itself included; a store states its own.
const CORE_MAX: usize = 15;

pub(crate) fn run(stores: &[Store]) -> Result<()> {
    let own = stores.iter().map(|store| (store.package(), store.crates_max));
    for (package, most) in own.chain([(CORE.to_owned(), Some(CORE_MAX))]) {
        let tree = tree(&package, &[])?;
        say("tree", &format!("{package}: {} crates", tree.len()));
        if let Some(fault) = fault(&package, &package, most, &tree, stores) {
            bail!(fault);
        }
    }
    one_store_at_a_time(stores)
}

/// A package with a feature for each store has the driver of that store alone.
fn one_store_at_a_time(stores: &[Store]) -> Result<()> {
    for package in workspace::packages() {
        let chosen: Vec<_> = features_of_stores(package, stores).collect();
        for store in &chosen {
            let tree = tree(&package.name, &["--no-default-features", "--features", &store.name])?;
            let what = format!("{} with `{}` alone", package.name, store.name);
            if !tree.iter().any(|line| line.starts_with(&format!("{} ", store.package()))) {
                bail!("{what} does not take in {}", store.package());
            }
            if let Some(fault) = fault(&what, &store.package(), None, &tree, stores) {
                bail!(fault);
            }
        }
        if !chosen.is_empty() {
            say("tree", &format!("{}: each of {} stores alone", package.name, chosen.len()));
        }
    }
    Ok(())
}

fn features_of_stores<'a>(
    package: &Package,
    stores: &'a [Store],
) -> impl Iterator<Item = &'a Store> {
    stores.iter().filter(|store| package.features.contains_key(&store.name))
}

fn tree(package: &str, features: &[&str]) -> Result<BTreeSet<String>> {
    let arguments = ["tree", "--package", package, "--edges", "normal", "--prefix", "none"];
    let arguments = arguments.iter().chain(features).chain(&["--format", "{p}"]);
    Ok(crates_in(&read(&cargo(arguments.copied()))?))
}

/// Name and version of each; the rest of a line is where it is, or that it was shown before.
fn crates_in(output: &str) -> BTreeSet<String> {
    let lines = output.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect()
}

/// `what` may have the driver of the store whose package is `own`, and no other.
fn fault(
    what: &str,
    own: &str,
    most: Option<usize>,
    tree: &BTreeSet<String>,
    stores: &[Store],
) -> Option<String> {
    if let Some(most) = most.filter(|most| tree.len() > *most) {
        return Some(format!("{what} takes in {} crates: at most {most} are allowed", tree.len()));
    }
    let names: BTreeSet<_> = tree.iter().filter_map(|line| line.split(' ').next()).collect();
    let others = stores.iter().filter(|store| store.package() != own);
    let mut drivers = others.filter_map(|store| Some((store, store.driver.as_deref()?)));
    let (owner, driver) = drivers.find(|(_, driver)| names.contains(driver))?;
    Some(format!("{what} takes in {driver}, the driver of {}", owner.title))
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
        assert_eq!(fault(CORE, CORE, Some(15), &many(15), &stores), None);
        assert!(fault(CORE, CORE, Some(15), &many(16), &stores).unwrap().contains("at most 15"));
        assert_eq!(fault("glock-etcd", "glock-etcd", None, &many(300), &stores), None);
        let tree = crates_in("glock-redis v0.1.0\nredis v1.8.1\nsqlx v0.9.0\nsqlx-postgres v0.9.0");
        assert!(
            fault("glock-redis", "glock-redis", None, &tree, &stores)
                .unwrap()
                .contains("sqlx-postgres")
        );
        assert!(fault(CORE, CORE, None, &crates_in("redis v1.8.1"), &stores).is_some());
        let tree = crates_in("glock-cli v0.1.0\nsqlx-sqlite v0.9.0\nmongodb v3.9.0");
        let fault = fault("glock-cli with `sqlite` alone", "glock-sqlite", None, &tree, &stores);
        assert!(fault.unwrap().contains("mongodb"));
    }

    #[test]
    fn the_command_and_its_urls_have_a_feature_for_each_of_their_stores() {
        let stores = load().unwrap();
        for name in ["glock-cli", "glock-url"] {
            let package = workspace::packages().iter().find(|it| *it.name == name).unwrap();
            assert!(features_of_stores(package, &stores).count() >= 8, "{name}");
        }
    }
}
