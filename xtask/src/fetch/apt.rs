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
    let client = |program: &str, words: &[&str]| {
        read(&cmd(program, words).env("APT_CONFIG", &config).dir(&apt)).context(program.to_owned())
    };
    client("apt-get", &["--quiet=2", "update"])?;
    let names: Vec<_> = pins.iter().map(|pin| &*pin.name).collect();
    let offered = client("apt-cache", &[&["madison"], &names[..]].concat())?;
    for (pin, version) in choose(suite, pins, &offered)? {
        client("apt-get", &["--quiet=2", "download", &format!("{}={version}", pin.name)])?;
        let path = downloaded(&apt, &pin.name, &version)?.display().to_string();
        let pinned =
            version != pin.version || read_of("sha256sum", &[&path])?.starts_with(&pin.sha256);
        ensure!(pinned, "the hash of {} {version} is not the pinned one", pin.name);
        read_of("dpkg", &["--extract", &path, &files.display().to_string()])?;
    }
    Ok(fs::remove_dir_all(&apt)?)
}

/// The pinned version of each package, or what the archive has in its place, with a warning.
fn choose<'a>(suite: &str, pins: &'a [Pin], offered: &str) -> Result<Vec<(&'a Pin, String)>> {
    let mut chosen = Vec::new();
    for pin in pins {
        let fields = offered.lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
        let ours = fields.filter(|fields| fields.first() == Some(&&*pin.name));
        let versions: Vec<_> = ours.filter_map(|fields| fields.get(1).copied()).collect();
        if versions.contains(&&*pin.version) {
            chosen.push((pin, pin.version.clone()));
            continue;
        }
        let Pin { name, version, .. } = pin;
        let other = versions.first().with_context(|| format!("{suite} has no package {name}"))?;
        let why = "signature checked by apt, hash not the pinned one";
        say("warning", &format!("{name} {version} is gone from {suite}: taking {other} ({why})"));
        chosen.push((pin, (*other).to_owned()));
    }
    Ok(chosen)
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

/// Apt writes the colon of an epoch as `%3a`.
fn downloaded(dir: &Path, name: &str, version: &str) -> Result<PathBuf> {
    let start = format!("{name}_{}_", version.replace(':', "%3a"));
    let mut entries = fs::read_dir(dir)?.flatten();
    let found = entries.find(|entry| entry.file_name().to_string_lossy().starts_with(&start));
    Ok(found.with_context(|| format!("apt-get left no package {name} {version}"))?.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_taken_where_it_is_offered_and_else_gives_way_to_what_there_is() {
        let pins = [("a", "1:1.0-1"), ("b", "2.0")].map(|(name, version)| Pin {
            name: name.into(),
            version: version.into(),
            sha256: String::new(),
        });
        let versions = |offered: &str| -> Result<Vec<_>> {
            Ok(choose("stable", &pins, offered)?.into_iter().map(|(_, version)| version).collect())
        };
        let all = " a | 1:1.0-2 | x stable/main\n a | 1:1.0-1 | x stable/main\n b | 2.0 | x";
        assert_eq!(versions(all).unwrap(), ["1:1.0-1", "2.0"]);
        assert_eq!(versions("a | 1:1.0-2 | x\nb | 2.0 | x").unwrap(), ["1:1.0-2", "2.0"]);
        let error = versions("a | 1:1.0-2 | x").unwrap_err().to_string();
        assert!(error.contains("no package b"), "{error}");
    }

    #[test]
    fn the_main_archive_is_the_one_of_the_release() {
        let targets = "http://sec/ main x-security\nhttp://tool/ main any\nhttp://arc/ contrib x\nhttp://arc/ main x";
        assert_eq!(main_archive(targets, "ID=debian\nVERSION_CODENAME=x\n"), Some("http://arc/"));
        assert_eq!(main_archive(targets, "ID=other\n"), None);
        assert_eq!(main_archive("", "VERSION_CODENAME=x"), None);
    }
}
