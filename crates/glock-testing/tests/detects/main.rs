//! The suite is tested too: a lock that keeps the contract passes it, and for each case there are
//! locks with a planted bug that it catches.
#![allow(clippy::unwrap_used, reason = "a toy that fails is a failed test")]

mod admin;
mod attempt;
mod client;
mod fails;
mod flaw;
mod flaws;
mod keys;
mod leftover;
mod lock;
mod queue;
mod server;
mod store;
mod subscriber;
mod table;
mod toy;
mod transport;
mod turns;
mod waiters;

/// Without a bug, every case passes.
mod sound {
    use crate::toy::Toy;

    glock_testing::contract!(Toy);
    glock_testing::networked!(Toy);
    glock_testing::admin_contract!(Toy);
    glock_testing::admin_networked!(Toy);
}

/// Also where the store keeps the queue.
mod sound_queue {
    use crate::toy::Toy;

    glock_testing::contract!(Toy, (), crate::with_queue);
    glock_testing::networked!(Toy, (), crate::with_queue);
}

/// Runs `case` against the lock whose store keeps the queue.
fn with_queue<C>(name: &'static str, case: impl FnOnce(toy::Toy) -> C)
where
    C: Future<Output = ()>,
{
    toy::plant(flaw::Flaw::SoundQueue);
    glock_testing::run(name, case);
}

/// With a bug that is meant for it, each case fails.
mod broken {
    use crate::toy::Toy;

    glock_testing::contract!(Toy, (), crate::fails::fails);
    glock_testing::networked!(Toy, (), crate::fails::fails);
    glock_testing::admin_contract!(Toy, (), crate::fails::fails);
    glock_testing::admin_networked!(Toy, (), crate::fails::fails);
}

#[test]
fn every_planted_flaw_is_found_by_a_case() {
    let found =
        |flaw| table::rows().any(|(_, flaws)| flaws.iter().any(|(found, _)| *found == flaw));
    let planted = flaw::Flaw::ALL
        .iter()
        .filter(|flaw| !matches!(flaw, flaw::Flaw::Sound | flaw::Flaw::SoundQueue));
    let missed: Vec<_> = planted.filter(|flaw| !found(**flaw)).collect();
    assert!(missed.is_empty(), "no case is to find {missed:?}");
}

/// A row that no case has would never be tried.
#[test]
fn every_row_is_a_case() {
    let suite =
        [include_str!("../../src/suite.rs"), include_str!("../../src/admin_suite.rs")].concat();
    for (name, _) in table::rows() {
        let (group, case) = name.split_once("::").unwrap();
        assert!(suite.contains(&format!("{group} {{")), "no group `{group}`");
        assert!(suite.contains(&format!(" {case},\n")), "no case `{name}`");
    }
}
