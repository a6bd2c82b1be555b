//! A server out of Debian packages, without installing them.
//!
//! Apt runs on a state of its own, whose only source is the machine's archive with the suite that is wanted,
//! and checks the archive's signature as ever.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    Result,
    shell::{read, say, works},
    stores::Deb,
};

/// Fetches the packages, checks their hashes, and unpacks them into `files`.
pub(crate) fn unpack(suite: &str, debs: &[Deb], files: &Path) -> Result<()> {
    if !works("apt-get", &["--version"]) || !works("dpkg", &["--version"]) {
        return Err("apt-get or dpkg is missing: this is no Debian".to_owned());
    }
    let apt = files.join("apt");
    let config = make_state(suite, &apt)?;
    let client = |program: &str| {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", &config).current_dir(&apt);
        command
    };
    read(client("apt-get").args(["--quiet=2", "update"]))?;
    let offered = read(client("apt-cache").arg("madison").args(debs.iter().map(|deb| deb.name)))?;
    let chosen = choose(suite, debs, &offered)?;
    let wanted = chosen.iter().map(|(deb, version)| format!("{}={version}", deb.name));
    read(client("apt-get").args(["--quiet=2", "download"]).args(wanted))?;
    for (deb, version) in &chosen {
        let path = downloaded(&apt, deb.name, version)?;
        let sum = read(Command::new("sha256sum").arg(&path))?;
        if *version == deb.version && !sum.starts_with(deb.sha256) {
            return Err(format!("the hash of {} {version} is not the pinned one", deb.name));
        }
        read(Command::new("dpkg").arg("--extract").arg(&path).arg(files))?;
    }
    fs::remove_dir_all(&apt).map_err(|error| format!("cannot remove {}: {error}", apt.display()))
}

/// The pinned version of each package, or what the archive has in its place, with a warning.
fn choose<'a>(suite: &str, debs: &'a [Deb], offered: &str) -> Result<Vec<(&'a Deb, String)>> {
    let mut versions: HashMap<&str, Vec<&str>> = HashMap::new();
    for line in offered.lines() {
        let mut fields = line.split('|').map(str::trim);
        if let (Some(name), Some(version)) = (fields.next(), fields.next()) {
            versions.entry(name).or_default().push(version);
        }
    }
    let mut chosen = Vec::new();
    for deb in debs {
        let offered = versions.get(deb.name).map_or(&[][..], Vec::as_slice);
        if offered.contains(&deb.version) {
            chosen.push((deb, deb.version.to_owned()));
            continue;
        }
        let Some(other) = offered.first() else {
            return Err(format!("{suite} has no package {}", deb.name));
        };
        let Deb { name, version, .. } = deb;
        let why = "signature checked by apt, hash not the pinned one";
        say("warning", &format!("{name} {version} is gone from {suite}: taking {other} ({why})"));
        chosen.push((deb, (*other).to_owned()));
    }
    Ok(chosen)
}

/// A state of apt that knows one suite and has nothing installed.
fn make_state(suite: &str, apt: &Path) -> Result<PathBuf> {
    let failed = |error: std::io::Error| format!("cannot write {}: {error}", apt.display());
    for dir in ["state/lists/partial", "cache/archives/partial", "parts"] {
        fs::create_dir_all(apt.join(dir)).map_err(failed)?;
    }
    let targets = ["$(REPO_URI)", "$(COMPONENT)", "$(RELEASE)"].join(" ");
    let mut ask = Command::new("apt-get");
    ask.args(["indextargets", "--format", &targets, "Created-By: Packages"]);
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let targets = read(&mut ask)?;
    let archive = main_archive(&targets, &release)
        .ok_or("no main archive of Debian is among the sources of apt: add one")?;
    let ring = Path::new("/usr/share/keyrings/debian-archive-keyring.gpg");
    let signed =
        if ring.exists() { format!("[signed-by={}] ", ring.display()) } else { String::new() };
    fs::write(apt.join("sources.list"), format!("deb {signed}{archive} {suite} main\n"))
        .map_err(failed)?;
    fs::write(apt.join("status"), "").map_err(failed)?;
    let config = apt.join("apt.conf");
    fs::write(&config, configuration(apt, &read(Command::new("id").arg("-un"))?))
        .map_err(failed)?;
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
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&start));
    let entry = found.next().ok_or_else(|| format!("apt-get left no package {name} {version}"))?;
    Ok(entry.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBS: [Deb; 2] = [
        Deb { name: "a", version: "1:1.0-1", sha256: "00" },
        Deb { name: "b", version: "2.0", sha256: "00" },
    ];

    #[test]
    fn a_pin_is_taken_where_it_is_offered() {
        let offered = " a | 1:1.0-2 | x stable/main\n a | 1:1.0-1 | x stable/main\n b | 2.0 | x";
        let versions: Vec<_> = choose("stable", &DEBS, offered)
            .unwrap()
            .into_iter()
            .map(|(_, version)| version)
            .collect();
        assert_eq!(versions, ["1:1.0-1", "2.0"]);
    }

    #[test]
    fn a_pin_that_is_gone_gives_way_to_what_there_is() {
        let chosen = choose("stable", &DEBS, "a | 1:1.0-2 | x\nb | 2.0 | x").unwrap();
        assert_eq!(chosen[0].1, "1:1.0-2");
        assert!(choose("stable", &DEBS, "a | 1:1.0-2 | x").unwrap_err().contains("no package b"));
    }

    #[test]
    fn the_main_archive_is_the_one_of_the_release() {
        let targets = "http://sec/ main x-security\nhttp://tool/ main any\nhttp://arc/ contrib x\nhttp://arc/ main x";
        assert_eq!(main_archive(targets, "ID=debian\nVERSION_CODENAME=x\n"), Some("http://arc/"));
        assert_eq!(main_archive(targets, "ID=other\n"), None);
        assert_eq!(main_archive("", "VERSION_CODENAME=x"), None);
    }
}
