//! The files of the workspace, as texts.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Result, bail};
use duct::cmd;

use crate::{
    shell::read,
    stores::{self, Store},
};

/// Paths from the root, with `/`, and what is in the files.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    files: BTreeMap<String, String>,
}

impl Tree {
    /// All text files that belong to the project, whether they are committed yet or not.
    pub(crate) fn of_workspace(root: &Path) -> Result<Self> {
        let git = cmd!("git", "ls-files", "--cached", "--others", "--exclude-standard").dir(root);
        let listed = match read(&git) {
            Ok(listed) => listed.lines().map(ToOwned::to_owned).collect(),
            // An exported tree has no history.
            Err(_) => walk(root, Path::new("")),
        };
        let texts = listed.into_iter().filter_map(|path| {
            let text = fs::read_to_string(root.join(&path)).ok()?;
            Some((path, text))
        });
        let files: BTreeMap<_, _> = texts.collect();
        if files.contains_key("Cargo.toml") {
            return Ok(Self { files });
        }
        bail!("{} is not the root of the workspace", root.display())
    }

    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let own = |(path, text): &(&str, &str)| ((*path).to_owned(), (*text).to_owned());
        Self { files: files.iter().map(own).collect() }
    }

    pub(crate) fn file(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    pub(crate) fn rust_files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files()
            .filter(|(path, _)| Path::new(path).extension().is_some_and(|kind| kind == "rs"))
    }

    /// The directories that have a manifest, but for the root.
    pub(crate) fn members(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files().filter_map(|(path, text)| Some((path.strip_suffix("/Cargo.toml")?, text)))
    }

    /// The crates that bring a store, by what their `servers.toml` says.
    pub(crate) fn stores(&self) -> impl Iterator<Item = (&str, Result<Store>)> {
        let files = self.files().filter(|(path, _)| path.starts_with("crates/glock-"));
        files.filter_map(|(path, text)| {
            Some((path.strip_suffix("/servers.toml")?, stores::parse(text)))
        })
    }

    /// All text below a directory.
    pub(crate) fn below(&self, dir: &str) -> String {
        let texts = self.files().filter(|(path, _)| path.starts_with(dir)).map(|(_, text)| text);
        texts.collect::<Vec<_>>().join("\n")
    }
}

fn walk(root: &Path, dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root.join(dir)).into_iter().flatten().flatten() {
        let path = dir.join(entry.file_name());
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_dir && !path.ends_with("target") && !path.ends_with(".git") {
            found.extend(walk(root, &path));
        } else if !is_dir {
            found.push(path.to_string_lossy().into_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    #[test]
    fn the_workspace_has_this_file() {
        let tree = Tree::of_workspace(&workspace::root()).unwrap();
        assert!(tree.file("xtask/src/tidy/tree.rs").is_some());
        assert!(tree.members().any(|(dir, _)| dir == "crates/glock-core"));
        assert!(
            walk(&workspace::root(), Path::new("xtask")).contains(&"xtask/Cargo.toml".to_owned())
        );
    }
}
