//! Fuzzing: damaged messages for all that reads a store's protocol.

use anyhow::{Context, Result, ensure};

use crate::{options::FuzzArgs, shell::cargo, stores::Store, workspace};

/// Where a crate has its fuzzer: a test that is ignored, because it takes as long as `--seconds` says.
const FUZZER: &str = "src/wire/fuzz.rs";

/// Runs the fuzzer of a store's crate.
pub(crate) fn run(stores: &[Store], args: &FuzzArgs) -> Result<()> {
    let store = stores.iter().find(|store| store.name == args.store);
    let package = store.with_context(|| format!("no store {:?}", args.store))?.package();
    let fuzzer = workspace::root().join("crates").join(&package).join(FUZZER);
    ensure!(fuzzer.exists(), "{package} reads no protocol of its own: it has no {FUZZER}");
    let words =
        ["test", "--package", &package, "--lib", "wire::fuzz", "--", "--ignored", "--nocapture"];
    let mut command = cargo(words).env("GLOCK_FUZZ_SECONDS", args.seconds.to_string());
    if let Some(seed) = args.seed {
        command = command.env("GLOCK_FUZZ_SEED", seed.to_string());
    }
    command.run().context("the fuzzer has found something")?;
    Ok(())
}
