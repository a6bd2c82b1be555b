//! `DatabaseFile`: where the locks are, and what must be true of that place.
//!
//! No file is opened here: SQLite's own locks on a file end when any descriptor of it is closed in the
//! process.

use std::{
    fs::{self, Metadata},
    io,
    path::{Path, PathBuf},
};

use glock_core::{Fault, LockError};

use crate::{client::file_system, error::Failure};

/// The file that a lock was given.
#[derive(Debug)]
pub(crate) struct DatabaseFile {
    /// From the root on.
    path: PathBuf,
}

/// Which file is at a path: another one has another identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    number: u64,
}

impl DatabaseFile {
    /// Checks the path alone. No I/O but for the current directory.
    pub(crate) fn new(path: &Path) -> Result<Self, LockError> {
        let invalid = |reason| Err(LockError::invalid("path", reason));
        let Some(text) = path.to_str() else {
            return invalid("it is not UTF-8, as SQLite's paths are");
        };
        if text.contains('\0') {
            return invalid("it has a NUL character");
        }
        if text.is_empty() || text.starts_with(":memory:") || text.starts_with("file:") {
            return invalid("name a file: other processes cannot see locks in memory");
        }
        match std::path::absolute(path) {
            Ok(path) => Ok(Self { path }),
            Err(_) => invalid("it is relative, and the current directory is gone"),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Which file is there now.
    pub(crate) fn id(&self) -> io::Result<FileId> {
        fs::metadata(&self.path).map(|found| id_of(&found))
    }

    /// Refuses a place where locks would not hold or could not be written, and says why.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let refused = |why: String| {
            let place = self.path.display();
            Err(Failure::new(Fault::Rejected, format!("{place}: {why}")))
        };
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        let found = fs::metadata(&self.path);
        if let Ok(found) = &found {
            if found.is_dir() {
                return refused("it is a directory; name a file in it".to_owned());
            }
            if !found.is_file() {
                return refused("it is no regular file".to_owned());
            }
            if links(found) > 1 {
                let why = "it has several names (hard links), and SQLite would keep a log for each";
                return refused(format!("{why}; remove all but one"));
            }
        } else if !directory.is_dir() {
            return refused(format!("there is no directory {}; create it", directory.display()));
        }
        let place = if found.is_ok() { &*self.path } else { directory };
        if let Some(name) = file_system::shared(place) {
            return refused(format!(
                "it is on {name}, which other machines may share: SQLite's locks and log do not reach \
                 them; name a file on a local disk, or use another store"
            ));
        }
        if found.is_ok() && !may_write(&self.path) {
            return refused("it may not be written to by this user, or is read-only".to_owned());
        }
        if !may_write(directory) {
            let directory = directory.display();
            return refused(format!(
                "its directory {directory} may not be written to by this user, or is read-only; SQLite \
                 keeps its log there"
            ));
        }
        Ok(())
    }

    /// Notifies the processes that watch the file, without a change of what is in it.
    #[cfg(target_os = "linux")]
    pub(crate) fn touch(&self) {
        use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};

        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        // Where it fails, waiters notice the release when they look by themselves.
        let _ = utimensat(CWD, &self.path, &times, AtFlags::empty());
    }

    /// Elsewhere than on Linux, waiters look by themselves.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn touch(&self) {}
}

#[cfg(unix)]
fn id_of(found: &Metadata) -> FileId {
    use std::os::unix::fs::MetadataExt as _;

    FileId { device: found.dev(), number: found.ino() }
}

#[cfg(not(unix))]
fn id_of(_found: &Metadata) -> FileId {
    FileId { device: 0, number: 0 }
}

#[cfg(unix)]
fn links(found: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(found)
}

#[cfg(not(unix))]
fn links(_found: &Metadata) -> u64 {
    1
}

#[cfg(target_os = "linux")]
fn may_write(path: &Path) -> bool {
    use rustix::fs::{Access, AtFlags, CWD, accessat};

    accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn may_write(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| !found.permissions().readonly())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_names_no_file_is_refused_without_a_look() {
        for bad in ["", ":memory:", "file:x?mode=memory", "a\0b"] {
            let refused = DatabaseFile::new(Path::new(bad));
            assert!(matches!(refused, Err(LockError::Invalid { .. })), "{bad:?}");
        }
        let relative = DatabaseFile::new(Path::new("locks.db")).unwrap();
        assert!(relative.path().is_absolute() && relative.path().ends_with("locks.db"));
    }

    #[cfg(unix)]
    #[test]
    fn a_path_that_is_no_utf_8_is_refused() {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};

        let path = Path::new(OsStr::from_bytes(b"\xff.db"));
        assert!(matches!(DatabaseFile::new(path), Err(LockError::Invalid { .. })));
    }
}
