//! A server out of a wheel.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use duct::cmd;

use crate::{
    shell::{read, works},
    stores::Pin,
};

/// The wheel that was pinned, whatever Python this machine has.
const TAGS: &str = "--python-version 3.11 --implementation cp --abi cp311 \
                    --platform manylinux1_x86_64 --platform manylinux_2_17_x86_64 \
                    --platform manylinux_2_28_x86_64";

/// Has pip fetch the wheel and check its hash, and unpacks it into `files`.
pub(crate) fn unpack(pin: &Pin, files: &Path) -> Result<()> {
    let installed = works("python3", &["-m", "pip", "--version"]);
    ensure!(installed, "pip is missing: `apt-get install python3-pip`");
    let Pin { name, version, sha256 } = pin;
    let scratch = files.join(".pip");
    fs::create_dir(&scratch)?;
    fs::write(scratch.join("pins"), format!("{name}=={version} --hash=sha256:{sha256}\n"))?;
    let download = "-m pip --disable-pip-version-check download --quiet --no-deps \
                    --only-binary :all: --require-hashes --requirement pins";
    let words = download.split_whitespace().chain(TAGS.split_whitespace());
    read(&cmd("python3", words).dir(&scratch)).context("pip")?;
    let paths = fs::read_dir(&scratch)?.flatten().map(|entry| entry.path());
    let wheel = paths.into_iter().find(|path| path.extension().is_some_and(|kind| kind == "whl"));
    let wheel = wheel.with_context(|| format!("pip left no wheel of {name}"))?;
    let unzip = cmd!("python3", "-m", "zipfile", "-e", &wheel, files);
    read(&unzip).with_context(|| wheel.display().to_string())?;
    Ok(fs::remove_dir_all(scratch)?)
}
