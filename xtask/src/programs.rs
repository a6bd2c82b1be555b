//! The programs of the workspace, which stores they are tested on, and which ones they are measured on.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::{
    stores::{self, Chosen, Store},
    workspace,
};

/// A package `glock-{name}` whose manifest has a table `package.metadata.xtask`.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) name: String,
    pub(crate) package: String,
    pub(crate) stores: Stores,
}

/// The stores that a program needs, by their names.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stores {
    /// On whose newest servers its test binary `servers` runs.
    pub(crate) tests: Vec<String>,
    /// Whose newest servers its benchmarks use.
    pub(crate) benches: Vec<String>,
}

/// All of them.
pub(crate) fn load() -> Result<Vec<Program>> {
    let mut programs = Vec::new();
    for package in workspace::packages() {
        let Some(table) = package.metadata.get("xtask") else { continue };
        let package = package.name.to_string();
        let name = package.trim_start_matches("glock-").to_owned();
        let stores = Stores::deserialize(table)
            .with_context(|| format!("{package}: package.metadata.xtask"))?;
        programs.push(Program { name, package, stores });
    }
    Ok(programs)
}

/// The program that the names of a command line stand for, if they stand for one.
pub(crate) fn named(names: &[String]) -> Result<Option<Program>> {
    let found = load()?.into_iter().find(|program| names.contains(&program.name));
    if let Some(Program { name, .. }) = &found {
        ensure!(names.len() == 1, "`{name}` is no store: name it alone, or stores");
    }
    Ok(found)
}

/// Each of these stores with its newest server.
pub(crate) fn newest<'a>(stores: &'a [Store], names: &[String]) -> Result<Vec<Chosen<'a>>> {
    let mut chosen = stores::choose(stores, names)?;
    for (_, servers) in &mut chosen {
        servers.truncate(1);
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_tested_on_the_newest_server_of_its_stores() {
        let stores = stores::load().unwrap();
        let cli = named(&["cli".to_owned()]).unwrap().unwrap();
        let chosen = newest(&stores, &cli.stores.tests).unwrap();
        let servers = chosen.iter().flat_map(|(_, servers)| servers.iter().map(|it| &*it.name));
        assert_eq!(servers.collect::<Vec<_>>(), ["etcd35", "postgres18", "redis8"]);
        newest(&stores, &cli.stores.benches).unwrap();
    }

    #[test]
    fn a_program_is_named_alone() {
        let names = ["redis", "cli"].map(ToOwned::to_owned);
        assert!(named(&names).unwrap_err().to_string().contains("alone"));
        assert!(named(&names[..1]).unwrap().is_none());
    }
}
