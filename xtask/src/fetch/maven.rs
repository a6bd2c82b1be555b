//! A server out of an archive of Java classes in Maven's repository.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use duct::cmd;

use crate::{
    shell::{read, read_of, works},
    stores::Pin,
};

/// Has Maven fetch the archive into `files`, and checks its hash.
pub(crate) fn unpack(pin: &Pin, files: &Path) -> Result<()> {
    ensure!(works("mvn", &["--version"]), "mvn is missing: `apt-get install maven`");
    let Pin { name, version, sha256 } = pin;
    let copy = "--quiet --batch-mode -Dstyle.color=never dependency:copy -DoutputDirectory=.";
    let what = format!("-Dartifact={name}:{version}");
    let words = copy.split_whitespace().chain([&*what]);
    read(&cmd("mvn", words).dir(files)).context("mvn")?;
    let path = fs::read_dir(files)?.flatten().map(|entry| entry.path()).next();
    let path = path.with_context(|| format!("mvn left no archive of {name}"))?;
    let is_pinned = read_of("sha256sum", &[&path.display().to_string()])?.starts_with(sha256);
    ensure!(is_pinned, "the hash of {name} {version} is not the pinned one");
    Ok(())
}
