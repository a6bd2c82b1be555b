//! The rows of the cases that need a proxy.

use crate::flaw::{Flaw, Row};

/// The cases of `networked!`.
pub(super) const NETWORKED: &[Row] = &[
    (
        "round_trips::warm_calls_take_one_round_trip",
        &[
            (Flaw::LooksBeforeAcquiring, "left: [2, 1, 1, 1]"),
            (Flaw::LooksBeforeRenewing, "left: [1, 1, 2, 1]"),
            (Flaw::LooksBeforeReleasing, "left: [1, 1, 1, 2]"),
            (Flaw::LooksBesideAcquiring, "requests of acquire, refused, renew, release"),
            (Flaw::LooksPipelined, "requests of acquire, refused, renew, release"),
        ],
    ),
    ("round_trips::idle_waiters_ask_nothing", &[(Flaw::Polls, "of nothing to do")]),
    (
        "round_trips::a_client_needs_few_connections",
        &[
            (Flaw::ConnectionPerWaiter, "3 connections"),
            (Flaw::ConnectionOutlivesClient, "outlive their client"),
        ],
    ),
    (
        "round_trips::what_is_dropped_leaves_no_connection",
        &[(Flaw::DropLeavesConnection, "connections: not back to")],
    ),
    (
        "unknown_outcome::a_cut_before_the_request_leaves_nothing",
        &[(Flaw::RetriesInBackground, "a grant came late")],
    ),
    (
        "unknown_outcome::a_cut_inside_the_request_leaves_nothing",
        &[(Flaw::RunsHalfRequests, "Held"), (Flaw::NeverReconnects, "`after` should be free")],
    ),
    (
        "unknown_outcome::a_cut_after_the_request_leaves_nothing",
        &[(Flaw::NewTokenOnRetry, "round 0: Held"), (Flaw::CutIsUnavailable, "is still held")],
    ),
    (
        "unknown_outcome::a_cut_inside_the_reply_leaves_nothing",
        &[(Flaw::TakesHalfReplies, "another token")],
    ),
    (
        "unknown_outcome::a_request_that_arrives_late_leaves_nothing",
        &[(Flaw::SameTokenOnRetry, "is still held"), (Flaw::UndoneOnce, "is still held")],
    ),
    (
        "unknown_outcome::a_grant_that_arrives_too_late_is_taken_back",
        &[(Flaw::AcquireNotUndone, "is still held")],
    ),
    (
        "unknown_outcome::a_release_whose_reply_is_cut_frees_the_lock",
        &[(Flaw::CutReleaseIsNotHeld, "NotHeld")],
    ),
    (
        "unknown_outcome::a_release_whose_request_is_cut_is_not_called_done",
        &[(Flaw::CutReleaseIsOk, "called done and is not")],
    ),
    (
        "unknown_outcome::a_renewal_whose_reply_is_cut_keeps_the_lock",
        &[(Flaw::CutRenewalIsNotHeld, "round 0: Err(NotHeld")],
    ),
    (
        "unknown_outcome::a_slow_answer_does_not_stretch_a_lease",
        &[
            (Flaw::DeadlineFromReply, "the grant's deadline"),
            (Flaw::RenewedDeadlineFromReply, "the renewal's deadline"),
        ],
    ),
    (
        "unknown_outcome::a_renewal_whose_reply_is_held_is_lost_by_the_deadline",
        &[
            (Flaw::RenewsBlindly, "the loss is reported"),
            (Flaw::GraceWithoutAnswer, "reported after their deadlines|after the deadline"),
        ],
    ),
    (
        "faults::a_closed_port_is_unavailable",
        &[
            (Flaw::ClosedPortIsUnknown, "left: Some(Unknown)"),
            (Flaw::ConnectsForEver, "left: Some(Unknown)"),
        ],
    ),
    (
        "faults::a_wrong_password_is_rejected",
        &[
            (Flaw::WrongPasswordIsUnavailable, "left: Some(Unavailable)"),
            (Flaw::PasswordInDebug, "the password is shown"),
            (Flaw::PasswordInError, "the password is shown"),
        ],
    ),
    (
        "faults::a_server_that_stops_in_mid_call_is_noticed_in_time",
        &[
            (Flaw::NoTimeLimit, "time limit did not hold"),
            (Flaw::WaitHasNoTimeLimit, "time limit did not hold"),
            (Flaw::StuckCallBlocks, "the client did not recover"),
        ],
    ),
    ("faults::a_connection_cut_while_idle_is_not_noticed", &[(Flaw::NoRetry, "ConnectionReset")]),
    (
        "faults::a_waiter_whose_connection_is_cut_is_still_woken",
        &[
            (Flaw::NeverListensAgain, "a release wakes it"),
            (Flaw::MissesWhatItMissed, "a release that it missed wakes it"),
        ],
    ),
    (
        "silence::connections_that_go_mute_cost_no_guard_its_lock",
        &[(Flaw::AttemptTakesWholeCall, "lost|not acquired")],
    ),
    (
        "runtimes::a_runtime_that_computes_costs_no_other_its_lock",
        &[(Flaw::AttemptTakesWholeCall, "lost|not acquired")],
    ),
    ("silence::a_store_that_stops_ends_no_wait", &[(Flaw::OutageIsRejected, "Rejected")]),
    ("silence::a_drain_of_a_silent_store_says_what_is_left", &[(Flaw::DrainsAtOnce, "left of")]),
    (
        "faults::cuts_never_let_two_hold",
        &[(Flaw::CutReleaseIsForced, "lost a lock|the history has|out of order")],
    ),
    ("processes::a_killed_holder_s_lock_passes_on", &[(Flaw::NeverExpires, "the lock passes on")]),
    (
        "processes::a_paused_holder_does_not_disturb_its_successor",
        &[(Flaw::ReleaseUnchecked, "left: None")],
    ),
    (
        "processes::a_killed_waiter_is_passed_over",
        &[(Flaw::NeverPassesOn, "the next waiter is served")],
    ),
    (
        "processes::a_frozen_waiter_is_passed_over_and_joins_again",
        &[(Flaw::NeverPassesOn, "the next waiter is served")],
    ),
    (
        "wakeups::no_waiter_is_woken_without_a_reason",
        &[(Flaw::WakesAllWaiters, "when it was not its turn")],
    ),
];
