//! Where things are, as `cargo metadata` tells it.

use std::{
    env,
    io::{self, Write},
    path::PathBuf,
    process,
    sync::LazyLock,
};

use cargo_metadata::{Metadata, MetadataCommand, Package};

static METADATA: LazyLock<Metadata> = LazyLock::new(|| {
    // Cargo sets it for what it runs; the binary on its own remembers where it was built.
    let own = env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").into());
    let mut command = MetadataCommand::new();
    command.no_deps().current_dir(own).exec().unwrap_or_else(|error| {
        drop(writeln!(io::stderr(), "xtask: cannot read the workspace: {error}"));
        process::exit(1)
    })
});

/// The directory of the root manifest.
pub(crate) fn root() -> PathBuf {
    METADATA.workspace_root.clone().into()
}

pub(crate) fn target() -> PathBuf {
    METADATA.target_directory.clone().into()
}

/// Where local servers are kept.
pub(crate) fn servers() -> PathBuf {
    let dir =
        env::var_os("GLOCK_SERVERS_DIR").map_or_else(|| target().join("servers"), PathBuf::from);
    std::path::absolute(&dir).unwrap_or(dir)
}

pub(crate) fn packages() -> &'static [Package] {
    &METADATA.packages
}
