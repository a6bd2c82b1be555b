//! Where things are.

use std::{env, path::PathBuf};

/// The directory of the root manifest.
pub(crate) fn root() -> PathBuf {
    // Cargo sets it for what it runs; the binary on its own remembers where it was built.
    let own =
        env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let own = PathBuf::from(own);
    own.parent().map(PathBuf::from).unwrap_or(own)
}

pub(crate) fn target() -> PathBuf {
    let target =
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    std::path::absolute(&target).unwrap_or(target)
}

/// Where local servers are kept.
pub(crate) fn servers() -> PathBuf {
    let dir =
        env::var_os("GLOCK_SERVERS_DIR").map_or_else(|| target().join("servers"), PathBuf::from);
    std::path::absolute(&dir).unwrap_or(dir)
}
