//! Histories made by hand: each violation is found, and what is legal passes.

use std::time::{Duration, Instant};

use glock_testing::history::{Grant, Record, Renewal, Violation, check};

use crate::{at, granted};

/// From `ok` on, released at `release`.
fn held(token: u64, ok: u64, release: u64) -> Grant {
    Grant { release: Some(at(release)), ..Grant::new(token, at(ok), at(ok + 1000)) }
}

fn only(records: &[Record]) -> Violation {
    let mut violations = check(records).unwrap_err();
    assert_eq!(violations.len(), 1, "{violations:?}");
    violations.swap_remove(0)
}

#[test]
fn one_after_the_other_is_legal() {
    let records = [
        granted("a", "1", 0, held(1, 1, 5)),
        // It waits, and gets the lock while the release is under way.
        granted("b", "1", 2, held(2, 5, 9)),
        granted("a", "1", 10, held(5, 12, 13)),
        // Another lock is another matter.
        granted("c", "2", 0, held(1, 2, 12)),
    ];
    let summary = check(&records).unwrap();
    assert_eq!((summary.grants, summary.share_min(), summary.share_max()), (4, 1, 2));
    assert_eq!(summary.longest_wait, at(3));
    assert_eq!(summary.hand_overs, [at(0), at(3)]);
}

#[test]
fn an_empty_history_is_legal_and_says_so() {
    assert_eq!(check(&[]).unwrap().grants, 0);
}

#[test]
fn two_at_once_are_named_with_the_time_that_they_share() {
    let records = [granted("b", "jobs", 2, held(8, 4, 9)), granted("a", "jobs", 0, held(7, 1, 6))];
    let violation = only(&records);
    let Violation::Overlap { id, first, second, by } = &violation else { panic!("{violation}") };
    assert_eq!(
        (id.as_str(), first.who.as_str(), second.who.as_str(), *by),
        ("jobs", "a", "b", at(2))
    );
    assert_eq!(
        violation.to_string(),
        "two held lock \"jobs\" at once for 2ms: \"a\" (token 7, from 0.001000 s to 0.006000 s) \
         and \"b\" (token 8, from 0.004000 s to 0.009000 s)"
    );
}

#[test]
fn a_long_hold_is_seen_behind_a_short_one() {
    let records = [
        granted("long", "1", 0, held(1, 1, 50)),
        granted("short", "1", 0, held(2, 2, 3)),
        granted("late", "1", 0, held(3, 40, 60)),
    ];
    let violations = check(&records).unwrap_err();
    assert_eq!(violations.len(), 2, "{violations:?}");
    let Violation::Overlap { first, second, .. } = &violations[1] else { panic!("{violations:?}") };
    assert_eq!((first.who.as_str(), second.who.as_str()), ("long", "late"));
}

#[test]
fn a_hold_of_a_moment_amid_another_is_an_overlap_and_at_its_edge_is_none() {
    let long = granted("a", "1", 0, held(1, 2, 6));
    let moment = |ms| granted("b", "1", 0, held(2, ms, ms));
    assert!(matches!(only(&[long.clone(), moment(4)]), Violation::Overlap { .. }));
    for edge in [2, 6] {
        assert!(check(&[long.clone(), moment(edge)]).is_ok());
        assert!(check(&[moment(edge), long.clone()]).is_ok());
    }
}

#[test]
fn a_hold_excludes_until_its_deadline_and_no_longer() {
    let expired = granted("a", "1", 0, Grant::new(1, at(1), at(10)));
    assert!(check(&[expired.clone(), granted("b", "1", 2, held(2, 10, 12))]).is_ok());
    let too_soon = only(&[expired, granted("b", "1", 2, held(2, 9, 12))]);
    assert!(matches!(too_soon, Violation::Overlap { by, .. } if by == at(1)));
}

#[test]
fn what_was_lost_is_not_handed_over() {
    let lost = Grant { lost: Some(at(3)), ..held(1, 1, 5) };
    let summary =
        check(&[granted("a", "1", 0, lost), granted("b", "1", 0, held(2, 4, 8))]).unwrap();
    assert!(summary.hand_overs.is_empty());
}

#[test]
fn a_lock_passed_to_oneself_is_no_hand_over() {
    let records = [granted("a", "1", 0, held(1, 1, 5)), granted("a", "1", 6, held(2, 7, 8))];
    assert!(check(&records).unwrap().hand_overs.is_empty());
}

#[test]
fn a_renewed_hold_excludes_until_its_new_deadline() {
    let renewed = |invoke, ok| {
        let renewal = Renewal { invoke: at(invoke), ok: at(ok), until: at(20) };
        let grant = Grant { renewals: vec![renewal], ..Grant::new(1, at(1), at(10)) };
        granted("a", "1", 0, grant)
    };
    let other = granted("b", "1", 0, held(2, 15, 16));
    assert!(matches!(only(&[renewed(8, 9), other.clone()]), Violation::Overlap { .. }));
    // Asked for in time and answered late: the store has kept it all the time.
    assert!(matches!(only(&[renewed(8, 12), other]), Violation::Overlap { .. }));
    assert!(check(&[renewed(8, 12)]).is_ok());
}

#[test]
fn a_renewal_after_the_end_is_a_violation_whatever_ended_the_hold() {
    let renewal = Renewal { invoke: at(12), ok: at(13), until: at(20) };
    let renewed =
        |grant: Grant| granted("a", "jobs", 0, Grant { renewals: vec![renewal], ..grant });
    let expired = renewed(Grant::new(1, at(1), at(10)));
    let released = renewed(held(1, 1, 9));
    let lost = renewed(Grant { lost: Some(at(8)), ..Grant::new(1, at(1), at(30)) });
    for (record, late) in [(expired, 2), (released, 3), (lost, 4)] {
        let violation = only(&[record]);
        assert!(
            matches!(violation, Violation::RenewedLate { by, .. } if by == at(late)),
            "{violation}"
        );
        assert!(violation.to_string().contains("after the hold was over"), "{violation}");
    }
    // It was asked for in time, but the holder learned of the loss before the reply: it is not to come back.
    let revived = Grant { lost: Some(at(12)), ..Grant::new(1, at(1), at(30)) };
    assert!(matches!(only(&[renewed(revived)]), Violation::RenewedLate { by, .. } if by == at(1)));
}

#[test]
fn a_grant_after_its_own_deadline_is_a_violation_and_holds_nothing() {
    let late = granted("a", "jobs", 0, Grant::new(1, at(12), at(10)));
    let violation = only(&[late, granted("b", "jobs", 0, held(2, 11, 13))]);
    assert!(matches!(violation, Violation::GrantedLate { by, .. } if by == at(2)));
    assert!(
        violation.to_string().starts_with("lock \"jobs\" was granted 2ms after its own deadline")
    );
}

#[test]
fn a_token_given_twice_is_found() {
    let records = [granted("a", "1", 0, held(4, 1, 2)), granted("b", "1", 3, held(4, 4, 5))];
    let violation = only(&records);
    assert!(matches!(violation, Violation::TokenRepeated { .. }), "{violation}");
    assert!(violation.to_string().contains("the same token"));
}

#[test]
fn a_token_that_falls_is_found_across_other_holds() {
    let records = [
        granted("a", "1", 0, held(9, 1, 2)),
        granted("b", "1", 3, held(10, 4, 5)),
        granted("c", "1", 6, held(8, 7, 8)),
    ];
    let violation = only(&records);
    let Violation::TokenFell { earlier, later, .. } = &violation else { panic!("{violation}") };
    assert_eq!((earlier.token, later.token), (10, 8));
    assert!(violation.to_string().starts_with("the token of lock \"1\" fell from \"b\" (token 10"));
}

#[test]
fn tokens_of_requests_under_way_together_may_come_in_any_order() {
    // Both were asked for before either was granted; the first one was lost at once.
    let first = Grant { lost: Some(at(4)), ..Grant::new(9, at(3), at(1000)) };
    let records = [granted("a", "1", 0, first), granted("b", "1", 3, held(8, 5, 6))];
    assert!(check(&records).is_ok());
}

#[test]
fn violations_come_in_the_order_in_which_they_happened() {
    let records = [
        granted("a", "2", 0, held(1, 50, 60)),
        granted("b", "2", 0, held(2, 55, 60)),
        granted("a", "1", 0, held(1, 5, 9)),
        granted("b", "1", 0, held(2, 6, 9)),
    ];
    let times: Vec<_> = check(&records).unwrap_err().iter().map(Violation::at).collect();
    assert_eq!(times, [at(6), at(55)]);
}

#[test]
fn two_hundred_thousand_holds_are_checked_in_seconds() {
    let hold = |n: u64| granted("a", "1", 10 * n, held(n, 10 * n + 1, 10 * n + 9));
    let mut records: Vec<_> = (0..200_000).map(hold).collect();
    records.reverse();
    #[expect(clippy::disallowed_methods, reason = "what the check costs, not a time of a lock")]
    let start = Instant::now();
    assert!(check(&records).is_ok_and(|summary| summary.grants == 200_000));
    // An optimised build takes a fraction of a second; comparing all pairs would take hours.
    assert!(start.elapsed() < Duration::from_secs(20), "took {:?}", start.elapsed());
}
