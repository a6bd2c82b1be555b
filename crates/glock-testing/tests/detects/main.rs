//! The suite is tested too: a lock that keeps the contract passes it, and for each case there are
//! locks with a planted bug that it catches.
#![allow(clippy::unwrap_used, reason = "a toy that fails is a failed test")]

mod client;
mod ears;
mod fails;
mod flaw;
mod keys;
mod lock;
mod server;
mod store;
mod table;
mod toy;
mod wire;

/// Without a bug, every case passes.
mod sound {
    use crate::toy::Toy;

    glock_testing::contract!(Toy);
    glock_testing::networked!(Toy);
}

/// With a bug that is meant for it, each case fails.
mod broken {
    use crate::toy::Toy;

    glock_testing::contract!(Toy, (), crate::fails::fails);
    glock_testing::networked!(Toy, (), crate::fails::fails);
}

#[test]
fn every_flaw_is_found_by_a_case() {
    use std::collections::HashSet;
    let found: HashSet<_> = table::TABLE.iter().flat_map(|(_, flaws)| *flaws).collect();
    let found: HashSet<_> = found.into_iter().map(|(flaw, _)| *flaw).collect();
    let missing: Vec<_> =
        flaw::Flaw::ALL.iter().skip(1).filter(|flaw| !found.contains(*flaw)).collect();
    assert!(missing.is_empty(), "planted and found by no case: {missing:?}");
}
