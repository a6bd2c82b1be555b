//! The checker against a search of every order in which a mutex could have done what a history shows.

use std::time::Duration;

use glock_testing::history::{Grant, Outcome, Record, Violation, check};

use crate::{at, granted};

const HISTORIES: u64 = 40_000;
const SEED: u64 = 0x6c6f_636b;

/// `SplitMix64`: small, and the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// One to four holds on a coarse clock, so that they often meet at the very same moment.
fn history(random: &mut Random) -> Vec<Record> {
    let (count, span) = (1 + random.below(4), 4 + random.below(16));
    (0..count)
        .map(|token| {
            let invoke = random.below(span);
            let ok = invoke + random.below(3);
            let until = if random.below(3) == 0 { ok + random.below(4) } else { 1000 };
            let mut grant = Grant::new(token, at(ok), at(until));
            if random.below(5) > 0 {
                let release = ok + random.below(4);
                grant.release = Some(at(release));
                if random.below(5) > 0 {
                    grant.released = Some(at(release + random.below(3)));
                }
            }
            granted(&format!("task {token}"), "1", invoke, grant)
        })
        .collect()
}

/// Something that happened to the mutex at one moment between two times; without an `ok`, then or never.
#[derive(Clone, Copy, Debug)]
struct Operation {
    hold: usize,
    does: Does,
    invoke: Duration,
    ok: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    Acquire,
    /// Released, or expired at the deadline, which may be any time after it.
    End,
}

fn operations(records: &[Record]) -> Vec<Operation> {
    let mut operations = Vec::new();
    for (hold, record) in records.iter().enumerate() {
        let Outcome::Granted(grant) = &record.outcome else { continue };
        let (does, invoke) = (Does::Acquire, record.invoke);
        operations.push(Operation { hold, does, invoke, ok: Some(grant.ok) });
        let released = grant.release.filter(|release| *release <= grant.until);
        let (invoke, ok) =
            released.map_or((grant.until, None), |release| (release, grant.released));
        operations.push(Operation { hold, does: Does::End, invoke, ok });
    }
    operations
}

/// Whether the operations not yet `done` can follow on a mutex that `owner` holds. Tries every order.
fn has_order(operations: &[Operation], done: u32, owner: Option<usize>) -> bool {
    let left = || operations.iter().enumerate().filter(|(index, _)| done & (1 << index) == 0);
    if left().all(|(_, operation)| operation.ok.is_none()) {
        return true;
    }
    // Real time: nothing may go before what had ended when it began.
    let earliest_ok = left().filter_map(|(_, operation)| operation.ok).min();
    left().any(|(index, operation)| {
        if earliest_ok.is_some_and(|ok| ok < operation.invoke) {
            return false;
        }
        let next = match (operation.does, owner) {
            (Does::Acquire, None) => Some(operation.hold),
            (Does::End, Some(holder)) if holder == operation.hold => None,
            _ => return false,
        };
        has_order(operations, done | (1 << index), next)
    })
}

#[test]
fn the_checker_agrees_with_an_exhaustive_search() {
    let mut random = Random(SEED);
    let mut legal = 0;
    for number in 0..HISTORIES {
        let records = history(&mut random);
        let expected = has_order(&operations(&records), 0, None);
        let violations = check(&records).err().unwrap_or_default();
        let found =
            !violations.iter().any(|violation| matches!(violation, Violation::Overlap { .. }));
        assert_eq!(
            found, expected,
            "history {number} of seed {SEED:#x}: {records:#?}\n{violations:#?}"
        );
        legal += u64::from(expected);
    }
    // Otherwise they would agree on one answer only.
    assert!(
        (HISTORIES / 5..HISTORIES * 4 / 5).contains(&legal),
        "{legal} of {HISTORIES} are legal"
    );
}

#[test]
fn tokens_are_judged_as_by_comparing_every_pair() {
    let mut random = Random(SEED);
    for number in 0..HISTORIES {
        let mut records = history(&mut random);
        for record in &mut records {
            let Outcome::Granted(grant) = &mut record.outcome else { continue };
            grant.token = random.below(4);
        }
        let grants: Vec<_> = records
            .iter()
            .filter_map(|record| match &record.outcome {
                Outcome::Granted(grant) => Some((record.invoke, grant.ok, grant.token)),
                _ => None,
            })
            .collect();
        let pairs = || {
            grants
                .iter()
                .enumerate()
                .flat_map(|(i, a)| grants[..i].iter().flat_map(move |b| [(a, b), (b, a)]))
        };
        let repeats = pairs().any(|(a, b)| a.2 == b.2);
        let falls = pairs().any(|(a, b)| a.1 < b.0 && a.2 > b.2);
        let violations = check(&records).err().unwrap_or_default();
        let has = |wanted: fn(&Violation) -> bool| violations.iter().any(wanted);
        assert_eq!(
            has(|one| matches!(one, Violation::TokenRepeated { .. })),
            repeats,
            "history {number}"
        );
        assert_eq!(
            has(|one| matches!(one, Violation::TokenFell { .. })),
            falls,
            "history {number}: {records:#?}"
        );
    }
}
