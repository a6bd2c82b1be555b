//! What a change must pass.

use anyhow::Result;

use crate::{
    budgets, integration,
    options::Options,
    shell::{cargo, run, run_cargo, say, works},
    stores::Store,
    suites::harness,
    tidy,
};

/// The checks that need no server, quickest first, then all tests.
pub(crate) fn run_all(stores: &[Store], options: &Options<'_>) -> Result<()> {
    run_cargo(&["fmt", "--all", "--check"])?;
    tidy::run()?;
    budgets::run(stores)?;
    let strict = ["--all-targets", "--", "--deny", "warnings"];
    run_cargo(&[&["clippy", "--workspace"], &strict[..]].concat())?;
    let containers = ["clippy", "--package", harness()?, "--features", "containers"];
    run_cargo(&[&containers, &strict[..]].concat())?;
    let doc = cargo(["doc", "--workspace", "--no-deps"]);
    run(&doc.env("RUSTDOCFLAGS", "--deny warnings"))?;
    if works("cargo", &["deny", "--version"]) {
        run_cargo(&["deny", "check", "bans", "licenses", "sources"])?;
    } else {
        say("skip", "licences and bans: `cargo install cargo-deny` to check them too");
    }
    integration::run(stores, options)
}
