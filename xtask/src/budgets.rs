//! How many crates a user takes in with each of ours, and none of another store.

use std::collections::BTreeSet;

use crate::{
    Result,
    shell::{cargo, read, say},
    tidy::BACKENDS,
    workspace,
};

/// The most crates in a tree, itself included.
const BUDGETS: [(&str, usize); 2] = [("glock-core", 15), ("glock-redis", 75)];

/// What only one store's crate may bring.
const DRIVERS: [(&str, &str); 8] = [
    ("glock-redis", "redis"),
    ("glock-postgres", "sqlx"),
    ("glock-dynamodb", "aws-sdk-dynamodb"),
    ("glock-mongodb", "mongodb"),
    ("glock-etcd", "etcd-client"),
    ("glock-zookeeper", "zookeeper-client"),
    ("glock-consul", "consul"),
    ("glock-hazelcast", "hazelcast"),
];

pub(crate) fn run() -> Result<()> {
    for krate in BACKENDS.iter().chain(&["glock-core"]) {
        if !workspace::root().join("crates").join(krate).exists() {
            continue;
        }
        let tree = tree(krate)?;
        say("tree", &format!("{krate}: {} crates", tree.len()));
        if let Some(fault) = fault(krate, &tree) {
            return Err(fault);
        }
    }
    Ok(())
}

fn tree(krate: &str) -> Result<BTreeSet<String>> {
    let mut cargo = cargo();
    cargo.args(["tree", "--package", krate, "--edges", "normal", "--prefix", "none"]);
    cargo.args(["--format", "{p}"]).current_dir(workspace::root());
    Ok(crates_in(&read(&mut cargo)?))
}

/// Name and version of each; the rest of a line is where it is, or that it was shown before.
fn crates_in(output: &str) -> BTreeSet<String> {
    let lines = output.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect()
}

fn fault(krate: &str, tree: &BTreeSet<String>) -> Option<String> {
    let budget = BUDGETS.iter().find(|(name, _)| *name == krate);
    if let Some((_, most)) = budget.filter(|(_, most)| tree.len() > *most) {
        return Some(format!("{krate} takes in {} crates: at most {most} are allowed", tree.len()));
    }
    let names: BTreeSet<_> = tree.iter().filter_map(|line| line.split(' ').next()).collect();
    let foreign = DRIVERS.iter().find(|(owner, driver)| *owner != krate && names.contains(driver));
    foreign.map(|(owner, driver)| format!("{krate} takes in {driver}, the driver of {owner}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_is_counted_once() {
        let output = "glock-core v0.1.0 (/x/glock-core)\ntokio v1.50.0\nsyn v2.0.1 (*)\nsyn v2.0.1\nsyn v1.0.0\n";
        assert_eq!(crates_in(output).len(), 4);
    }

    #[test]
    fn too_many_crates_are_a_fault() {
        let many = |count: usize| (0..count).map(|n| format!("crate{n} v1.0.0")).collect();
        assert_eq!(fault("glock-core", &many(15)), None);
        assert!(fault("glock-core", &many(16)).unwrap().contains("at most 15"));
        assert_eq!(fault("glock-etcd", &many(300)), None);
    }

    #[test]
    fn another_stores_driver_is_a_fault() {
        let tree = crates_in("glock-redis v0.1.0\nredis v1.8.1\nsqlx v0.9.0");
        assert!(fault("glock-redis", &tree).unwrap().contains("sqlx"));
        assert!(fault("glock-core", &crates_in("redis v1.8.1")).is_some());
    }
}
