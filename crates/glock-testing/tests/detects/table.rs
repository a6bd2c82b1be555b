//! Which planted bug each case must find, and what it then says.

mod admin;
mod networked;

use crate::{
    flaw::{Flaw, Row},
    table::{admin::ADMIN, networked::NETWORKED},
};

/// The bugs that a case must find, if there are any.
pub(crate) fn flaws_of(case: &str) -> Option<&'static [(Flaw, &'static str)]> {
    rows().find(|(name, _)| *name == case).map(|(_, flaws)| *flaws)
}

pub(crate) fn rows() -> impl Iterator<Item = &'static Row> {
    CONTRACT.iter().chain(NETWORKED).chain(ADMIN)
}

/// The cases of `contract!`.
const CONTRACT: &[Row] = &[
    ("exclusion::a_second_owner_is_refused", &[(Flaw::GrantsToTheSameHolder, "should be held")]),
    ("exclusion::a_released_lock_is_free", &[(Flaw::ReleaseKeepsRecord, "right: None")]),
    ("exclusion::one_of_many_first_tries_wins", &[(Flaw::FirstInsertRaces, "right: 1")]),
    (
        "exclusion::a_hundred_contenders_never_overlap",
        &[
            (Flaw::GrantRaces, "the history has"),
            (Flaw::TokensAreRandom, "tokens out of order|the token of lock"),
        ],
    ),
    ("exclusion::sixteen_tasks_share_a_lock_fairly", &[(Flaw::NoQueue, "unfair|starved")]),
    (
        "expiry::an_expired_lease_frees_the_lock",
        &[
            (Flaw::NeverExpires, "did not come free in time"),
            (Flaw::ExpiresEarly, "free after"),
            (Flaw::ExpiresLate, "did not come free in time"),
        ],
    ),
    (
        "expiry::the_local_deadline_is_never_later_than_the_store_s",
        &[
            (Flaw::ExpiresEarly, "after the lock had passed on"),
            (Flaw::RenewsNothing, "after the lock had passed on"),
        ],
    ),
    (
        "ownership::an_expired_lease_is_dead",
        &[
            (Flaw::RenewRevives, "renewing before anybody else came succeeded"),
            (Flaw::ReleaseAlwaysOk, "releasing before anybody else came succeeded"),
        ],
    ),
    (
        "ownership::a_released_lease_is_dead",
        &[
            (Flaw::RenewRecreates, "renewing after the release succeeded"),
            (Flaw::ReleaseAlwaysOk, "releasing twice succeeded"),
        ],
    ),
    (
        "ownership::a_lease_that_somebody_else_ended_is_dead",
        &[
            (Flaw::RenewAlwaysOk, "renewing what an operator ended succeeded"),
            (Flaw::ReleaseAlwaysOk, "releasing what an operator ended succeeded"),
        ],
    ),
    (
        "ownership::a_foreign_lease_changes_nothing",
        &[
            (Flaw::ReleaseUnchecked, "releasing a foreign lease succeeded"),
            (Flaw::RenewUnchecked, "renewing a foreign lease succeeded"),
            (Flaw::OwnerByPrefix, "foreign lease succeeded"),
            (Flaw::OwnerCutOff, "foreign lease succeeded"),
            (Flaw::OwnerCaseFolded, "foreign lease succeeded"),
        ],
    ),
    (
        "ownership::a_lease_of_another_store_changes_nothing",
        &[
            (Flaw::ForeignTokenIsRejected, "renewing it: Backend"),
            (Flaw::RenewRecreates, "renewing it succeeded"),
        ],
    ),
    ("ownership::a_lease_travels_as_text", &[(Flaw::OnlyOwnLeases, "NotHeld")]),
    ("renewal::a_renewed_lease_outlives_its_first_ttl", &[(Flaw::RenewsNothing, "should be held")]),
    (
        "renewal::an_old_lease_is_as_good_as_the_renewed",
        &[(Flaw::RenewalRotatesOwner, "left: Some"), (Flaw::RenewShortens, "was cut short")],
    ),
    ("renewal::a_guard_keeps_its_lock", &[(Flaw::RenewsOnce, "should be held|guard.is_valid()")]),
    ("renewal::a_stuck_holder_loses_its_lock", &[(Flaw::ClientRenews, "is still held")]),
    ("renewal::an_evicted_hold_is_lost_in_time", &[(Flaw::RenewAlwaysOk, "the loss is reported")]),
    (
        "fencing::tokens_grow_across_release",
        &[
            (Flaw::TokenRestartsOnRelease, "turn 1: 1 after 1"),
            (Flaw::TokensAreRandom, " after "),
            (Flaw::TokensAreSeconds, " after "),
        ],
    ),
    ("fencing::tokens_grow_across_expiry", &[(Flaw::TokenRestartsOnExpiry, "the token fell")]),
    (
        "fencing::tokens_grow_when_the_store_forgets",
        &[(Flaw::TokenRestartsWhenForgotten, "turn 1: 1 after 4")],
    ),
    ("fencing::a_hold_has_one_token", &[(Flaw::TokenChangesOnRenewal, "left: FencingToken")]),
    (
        "waiting::a_free_lock_is_not_waited_for",
        &[(Flaw::SleepsWithoutLooking, "what was never held is free")],
    ),
    (
        "waiting::a_waiter_is_woken_by_a_release",
        &[
            (Flaw::NoWakeUps, "a release wakes the waiter"),
            (Flaw::WakesTooEarly, "a release wakes the waiter"),
            (Flaw::PollsInsteadOfListening, "woken only after"),
        ],
    ),
    ("waiting::a_wait_for_ever_is_woken", &[(Flaw::WaitOverflows, "overflow")]),
    (
        "waiting::a_waiter_gets_a_lock_that_runs_out",
        &[(Flaw::SleepsThroughExpiry, "the lease's end wakes the waiter")],
    ),
    (
        "waiting::a_release_just_before_the_sleep_is_not_missed",
        &[(Flaw::SubscribesAfterLook, "the release was missed")],
    ),
    ("waiting::a_wait_ends_in_time", &[(Flaw::WaitIgnoresMax, "a wait with a limit ends")]),
    ("waiting::waiters_of_one_client_are_served_in_order", &[(Flaw::NoQueue, "right: [0, 1, 2")]),
    (
        "waiting::a_waiter_that_gives_up_leaves_no_place_behind",
        &[(Flaw::WaiterStaysQueued, "the second in the queue is served")],
    ),
    (
        "waiting::waiters_of_two_clients_are_all_served",
        &[(Flaw::WakesOneClient, "no hand-over is missed")],
    ),
    (
        "queue::three_clients_are_served_in_the_order_of_arrival",
        &[
            (Flaw::ClaimsStoreOrder, "the queue has 1 waiters"),
            (Flaw::ServesLastFirst, "right: [0, 1, 2"),
        ],
    ),
    ("queue::a_try_does_not_barge", &[(Flaw::TryBarges, "a try overtook a waiter")]),
    (
        "queue::a_cancelled_waiter_is_passed_over",
        &[(Flaw::KeepsCancelledPlaces, "the next waiter is served")],
    ),
    ("queue::a_place_left_behind_is_gone", &[(Flaw::NeverPassesOn, "the place is gone")]),
    ("queue::a_turn_that_is_not_used_passes_on", &[(Flaw::NeverPassesOn, "the turn passes on")]),
    (
        "queue::a_waiter_whose_place_was_lost_joins_again",
        &[(Flaw::LostPlaceStaysLost, "a waiter whose place was lost is served")],
    ),
    (
        "cancellation::an_acquire_dropped_anywhere_leaves_nothing",
        &[(Flaw::AcquireNotUndone, "is still held|dropped at some point")],
    ),
    (
        "cancellation::a_wait_dropped_anywhere_leaves_nothing",
        &[
            (Flaw::WaiterStaysQueued, "a place in the queue is left"),
            (Flaw::LeaksSessions, "what the store keeps"),
        ],
    ),
    (
        "cancellation::a_renewal_dropped_anywhere_keeps_the_lease",
        &[(Flaw::RenewsByAcquiring, "should be held"), (Flaw::RenewalRotatesOwner, "NotHeld")],
    ),
    (
        "cancellation::a_release_dropped_anywhere_is_carried_out",
        &[(Flaw::ReleaseStopsHalfWay, "is still held")],
    ),
    (
        "cancellation::a_thousand_dropped_holds_leave_nothing",
        &[
            (Flaw::AcquireNotUndone, "is still held|came late"),
            (Flaw::LeaksTasks, "tasks of 1,000 holds"),
            (Flaw::DropLeavesTask, "tasks of 1,000 holds"),
            (Flaw::WaiterStaysQueued, "is still held|came late"),
        ],
    ),
    (
        "cancellation::a_thousand_dropped_guards_leave_nothing",
        &[
            (
                Flaw::RenewalOutlivesRelease,
                "a guard that was dropped releases|is still held|came late",
            ),
            (Flaw::RenewalRotatesOwner, "a guard that was dropped releases|is still held"),
        ],
    ),
    (
        "drain::what_is_dropped_is_free_once_drained",
        &[(Flaw::DrainsAtOnce, "is still held after a drain")],
    ),
    (
        "ids::hostile_ids_are_locks_of_their_own",
        &[
            (Flaw::IdsTrimmed, "Held"),
            (Flaw::IdsInUpperCase, "Held"),
            (Flaw::IdsArePaths, "Held"),
            (Flaw::IdsPercentDecoded, "Held"),
            (Flaw::IdsInAscii, "Held"),
            (Flaw::IdsHashed, "Held"),
        ],
    ),
    (
        "ids::ids_that_differ_are_two_locks",
        &[
            (Flaw::IdsInLowerCase, "Held"),
            (Flaw::IdsTrimmed, "Held"),
            (Flaw::IdsArePaths, "Held"),
            (Flaw::IdsPercentDecoded, "Held"),
            (Flaw::IdsCutOff, "Held"),
            (Flaw::IdsNormalized, "Held"),
            (Flaw::ReleasesByPrefix, "should be held"),
        ],
    ),
    (
        "ids::namespaces_are_apart",
        &[(Flaw::NamespacesIgnored, "Held"), (Flaw::NamespaceJoinedPlainly, "right: (0, 1)")],
    ),
    (
        "limits::ttls_out_of_range_reach_no_store",
        &[(Flaw::TtlUnchecked, "0ns"), (Flaw::RenewedTtlUnchecked, "0ns: Ok")],
    ),
    (
        "limits::the_shortest_and_the_longest_ttl_work",
        &[
            (Flaw::TtlRoundedDown, "rounded down"),
            (Flaw::TtlMaxRefused, "Invalid"),
            (Flaw::TtlCutOff, "the store has cut it"),
        ],
    ),
    (
        "leaks::a_thousand_refused_tries_leave_nothing",
        &[(Flaw::LeaksSessions, "what the store keeps"), (Flaw::LeaksTasks, "tasks: not back")],
    ),
    (
        "leaks::holds_that_ended_leave_nothing",
        &[(Flaw::LeaksEndedSessions, "what the store keeps")],
    ),
    (
        "inspection::a_holder_can_be_looked_at",
        &[
            (Flaw::HolderNotShown, "a holder"),
            (Flaw::LabelInAscii, "web-3"),
            (Flaw::ShowsMoreThanIsLeft, "are shown as left"),
        ],
    ),
    ("inspection::an_expired_lease_is_not_shown", &[(Flaw::ShowsTheExpired, "right: None")]),
    (
        "inspection::nothing_shows_an_owner_token",
        &[(Flaw::OwnerInDebug, "a secret is shown"), (Flaw::OwnerInLabel, "a secret is shown")],
    ),
];
