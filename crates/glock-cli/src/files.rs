//! Leases in files and on standard input.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use glock_core::Lease;

use crate::exit::{Exit, Failure};

/// No lease's text is longer.
const TEXT_MAX: u64 = 4_096;
/// The owner alone may read it: every reader can end the hold.
const MODE: u32 = 0o600;

/// Writes the lease into a file that appears at once and whole.
pub(crate) fn write(path: &Path, lease: &Lease) -> Result<(), Failure> {
    let failed = |err: io::Error| {
        Failure::new(Exit::File, format!("cannot write {}: {err}", path.display()))
    };
    // The rename would put a file in the place of a device or a link.
    if fs::symlink_metadata(path).is_ok_and(|there| !there.is_file()) {
        return Err(failed(io::Error::other(
            "it is no regular file; without --lease-file the lease goes to standard output",
        )));
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&beside)?;
        file.write_all(format!("{}\n", lease.to_secret_text()).as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().map_err(|err| {
        let _ = fs::remove_file(&beside);
        failed(err)
    })
}

/// Reads a lease from a file, or from standard input.
pub(crate) fn read(path: Option<&Path>) -> Result<Lease, Failure> {
    let mut text = String::new();
    let (what, read) = match path {
        Some(path) => {
            let opened = fs::File::open(path);
            (
                path.display().to_string(),
                opened.and_then(|file| file.take(TEXT_MAX).read_to_string(&mut text)),
            )
        }
        None => ("standard input".to_owned(), io::stdin().take(TEXT_MAX).read_to_string(&mut text)),
    };
    let no_lease =
        || Failure::new(Exit::Usage, format!("{what} has no lease as `glock acquire` prints it"));
    match read {
        Ok(_) => text.trim().parse().map_err(|_| no_lease()),
        // It is no text.
        Err(err) if err.kind() == io::ErrorKind::InvalidData => Err(no_lease()),
        Err(err) => {
            Err(Failure::new(Exit::File, format!("cannot read the lease from {what}: {err}")))
        }
    }
}
