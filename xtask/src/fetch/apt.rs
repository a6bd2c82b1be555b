//! A server out of Debian packages, without installing them.
//!
//! Apt runs on a state of its own, whose only source is the machine's archive with the suite that is wanted,
//! and checks the archive's signature as ever.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use duct::cmd;

use crate::{
    shell::{read, read_of, say, works},
    stores::Pin,
};

/// Fetches the packages, checks their hashes, and unpacks them into `files`.
pub(crate) fn unpack(suite: &str, pins: &[Pin], files: &Path) -> Result<()> {
    let debian = works("apt-get", &["--version"]) && works("dpkg", &["--version"]);
    ensure!(debian, "apt-get or dpkg is missing: this is no Debian");
    let apt = files.join(".apt");
    let config = make_state(suite, &apt)?;
    let get = |words: &[&str]| {
        let command = cmd("apt-get", [&["--quiet=2"], words].concat());
        read(&command.env("APT_CONFIG", &config).dir(&apt)).context("apt-get")
    };
    get(&["update"])?;
    for Pin { name, version, sha256 } in pins {
        let pinned = get(&["download", &format!("{name}={version}")]).is_ok();
        if !pinned {
            let why = "signature checked by apt, hash not the pinned one";
            say(
                "warning",
                &format!("{name} {version} is gone from {suite}: taking another ({why})"),
            );
            get(&["download", name])?;
        }
        let path = downloaded(&apt, name)?;
        let is_pinned = !pinned || read_of("sha256sum", &[&path])?.starts_with(sha256);
        ensure!(is_pinned, "the hash of {name} {version} is not the pinned one");
        read_of("dpkg", &["--extract", &path, &files.display().to_string()])?;
    }
    Ok(fs::remove_dir_all(&apt)?)
}

/// A state of apt that knows one suite and has nothing installed.
fn make_state(suite: &str, apt: &Path) -> Result<PathBuf> {
    for dir in ["state/lists/partial", "cache/archives/partial", "parts"] {
        fs::create_dir_all(apt.join(dir))?;
    }
    let targets = ["$(REPO_URI)", "$(COMPONENT)", "$(RELEASE)"].join(" ");
    let ask = ["indextargets", "--format", &targets, "Created-By: Packages"];
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let targets = read_of("apt-get", &ask)?;
    let archive = main_archive(&targets, &release)
        .context("no main archive of Debian is among the sources of apt: add one")?;
    let ring = Path::new("/usr/share/keyrings/debian-archive-keyring.gpg");
    let signed =
        if ring.exists() { format!("[signed-by={}] ", ring.display()) } else { String::new() };
    fs::write(apt.join("sources.list"), format!("deb {signed}{archive} {suite} main\n"))?;
    fs::write(apt.join("status"), "")?;
    let config = apt.join("apt.conf");
    fs::write(&config, configuration(apt, &read_of("id", &["-un"])?))?;
    Ok(config)
}

fn configuration(apt: &Path, user: &str) -> String {
    let (apt, user) = (apt.display(), user.trim());
    format!(
        "Dir::State \"{apt}/state\";\n\
         Dir::State::status \"{apt}/status\";\n\
         Dir::Cache \"{apt}/cache\";\n\
         Dir::Etc::sourcelist \"{apt}/sources.list\";\n\
         Dir::Etc::sourceparts \"{apt}/parts\";\n\
         Dir::Etc::preferencesparts \"{apt}/parts\";\n\
         APT::Sandbox::User \"{user}\";\n\
         Acquire::Languages \"none\";\n\
         Acquire::Retries \"3\";\n\
         Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n\
         Acquire::IndexTargets::deb::CNF::DefaultEnabled \"false\";\n"
    )
}

/// Debian's own archive, as this machine reaches it: the source of the release that it runs.
fn main_archive<'a>(targets: &'a str, release: &str) -> Option<&'a str> {
    let codename = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    targets.lines().find_map(|line| {
        let mut words = line.split(' ');
        let (archive, component, suite) = (words.next()?, words.next()?, words.next()?);
        let ours = [codename.trim_matches('"'), "stable", "oldstable", "testing"].contains(&suite);
        (component == "main" && ours).then_some(archive)
    })
}

/// The name of the file has the version in a spelling of apt's own.
fn downloaded(dir: &Path, name: &str) -> Result<String> {
    let mut paths = fs::read_dir(dir)?.flatten().map(|entry| entry.path().display().to_string());
    let found = paths.find(|path| path.contains(&format!("/{name}_")));
    found.with_context(|| format!("apt-get left no package {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_main_archive_is_the_one_of_the_release() {
        let targets = "http://sec/ main x-security\nhttp://tool/ main any\nhttp://arc/ contrib x\nhttp://arc/ main x";
        assert_eq!(main_archive(targets, "ID=debian\nVERSION_CODENAME=x\n"), Some("http://arc/"));
        assert_eq!(main_archive(targets, "ID=other\n"), None);
        assert_eq!(main_archive("", "VERSION_CODENAME=x"), None);
    }
}
