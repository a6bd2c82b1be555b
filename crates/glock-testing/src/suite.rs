//! `conformance!`: the list of cases, and the runner of one.

use std::time::Duration;

use crate::{Fixture, fresh_namespace};

/// No case takes longer, even on a store whose shortest TTL is ten seconds.
const CASE_TIME_MAX: Duration = Duration::from_mins(4);

/// Runs the case `name` on a runtime of its own. The suite's macros call it.
///
/// # Panics
///
/// If the case fails, or does not end in time.
pub fn run<F, C>(name: &str, case: impl FnOnce(F) -> C)
where
    F: Fixture,
    C: Future<Output = ()>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        // A panic in a task then says which test it belongs to.
        .thread_name(std::thread::current().name().unwrap_or(name))
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let case = async { case(F::open(fresh_namespace()).await).await };
        let ended = tokio::time::timeout(CASE_TIME_MAX, case).await;
        assert!(ended.is_ok(), "`{name}` did not end within {CASE_TIME_MAX:?}");
    });
    // What a case left in the background must not outlive it.
    runtime.shutdown_timeout(Duration::from_secs(1));
}

/// Writes one `#[test]` a case.
#[doc(hidden)]
#[macro_export]
macro_rules! cases {
    ($fixture:ty, $run:path, $attributes:tt { $($group:ident { $($case:ident),+ $(,)? })+ }) => {$(
        mod $group {
            #[allow(unused_imports, reason = "a fixture may be named by a path")]
            use super::*;
            $($crate::cases!(@one $fixture, $run, $attributes, $group, $case);)+
        }
    )+};
    (@one $fixture:ty, $run:path, ($(#[$attribute:meta])*), $group:ident, $case:ident) => {
        #[test]
        $(#[$attribute])*
        fn $case() {
            let name = concat!(stringify!($group), "::", stringify!($case));
            $run(name, |fixture: $fixture| async move {
                $crate::cases::$group::$case(&fixture).await;
            });
        }
    };
}

/// The cases that every lock passes, as `#[test]`s of the given [`Fixture`].
///
/// `contract!(Memory)` runs them in plain `cargo test`. A store's crate uses
/// [`conformance!`](crate::conformance). A third argument runs each case instead of
/// [`run`](crate::run), and is given its name and the case.
#[macro_export]
macro_rules! contract {
    ($fixture:ty) => {
        $crate::contract!($fixture, ());
    };
    ($fixture:ty, $attributes:tt) => {
        $crate::contract!($fixture, $attributes, $crate::run);
    };
    ($fixture:ty, $attributes:tt, $run:path) => {
        $crate::cases!($fixture, $run, $attributes {
            exclusion {
                a_second_owner_is_refused,
                a_released_lock_is_free,
                one_of_many_first_tries_wins,
                a_hundred_contenders_never_overlap,
                sixteen_tasks_share_a_lock_fairly,
            }
            expiry {
                an_expired_lease_frees_the_lock,
                the_local_deadline_is_never_later_than_the_store_s,
            }
            ownership {
                an_expired_lease_is_dead,
                a_released_lease_is_dead,
                a_lease_that_somebody_else_ended_is_dead,
                a_foreign_lease_changes_nothing,
                a_lease_of_another_store_changes_nothing,
                a_lease_travels_as_text,
            }
            renewal {
                a_renewed_lease_outlives_its_first_ttl,
                an_old_lease_is_as_good_as_the_renewed,
                a_guard_keeps_its_lock,
                a_stuck_holder_loses_its_lock,
                an_evicted_hold_is_lost_in_time,
            }
            fencing {
                tokens_grow_across_release,
                tokens_grow_across_expiry,
                tokens_grow_when_the_store_forgets,
                a_hold_has_one_token,
            }
            waiting {
                a_free_lock_is_not_waited_for,
                a_waiter_is_woken_by_a_release,
                a_wait_for_ever_is_woken,
                a_waiter_gets_a_lock_that_runs_out,
                a_release_just_before_the_sleep_is_not_missed,
                a_wait_ends_in_time,
                waiters_of_one_client_are_served_in_order,
                a_waiter_that_gives_up_leaves_no_place_behind,
                waiters_of_two_clients_are_all_served,
            }
            queue {
                three_clients_are_served_in_the_order_of_arrival,
                a_try_does_not_barge,
                a_cancelled_waiter_is_passed_over,
                a_place_left_behind_is_gone,
                a_turn_that_is_not_used_passes_on,
                a_waiter_whose_place_was_lost_joins_again,
            }
            cancellation {
                an_acquire_dropped_anywhere_leaves_nothing,
                a_wait_dropped_anywhere_leaves_nothing,
                a_renewal_dropped_anywhere_keeps_the_lease,
                a_release_dropped_anywhere_is_carried_out,
                a_thousand_dropped_holds_leave_nothing,
                a_thousand_dropped_guards_leave_nothing,
            }
            drain {
                what_is_dropped_is_free_once_drained,
            }
            ids {
                hostile_ids_are_locks_of_their_own,
                ids_that_differ_are_two_locks,
                namespaces_are_apart,
            }
            limits {
                ttls_out_of_range_reach_no_store,
                the_shortest_and_the_longest_ttl_work,
            }
            leaks {
                a_thousand_refused_tries_leave_nothing,
                holds_that_ended_leave_nothing,
            }
            inspection {
                a_holder_can_be_looked_at,
                an_expired_lease_is_not_shown,
                nothing_shows_an_owner_token,
            }
        });
    };
}

/// The cases for a store that outlives a process and that others share, as `#[test]`s of the given
/// [`Fixture`](crate::Fixture). Arguments as of [`contract!`](crate::contract).
#[macro_export]
macro_rules! interprocess {
    ($fixture:ty) => {
        $crate::interprocess!($fixture, ());
    };
    ($fixture:ty, $attributes:tt) => {
        $crate::interprocess!($fixture, $attributes, $crate::run);

        /// Not a case: what `a_killed_holder_s_lock_passes_on` runs in another process.
        #[test]
        #[ignore = "run by a case in a process of its own"]
        fn holder_process() {
            $crate::cases::processes::hold_until_killed::<$fixture>();
        }
    };
    ($fixture:ty, $attributes:tt, $run:path) => {
        $crate::cases!($fixture, $run, $attributes {
            processes {
                a_killed_holder_s_lock_passes_on,
                a_paused_holder_does_not_disturb_its_successor,
                a_killed_waiter_is_passed_over,
                a_frozen_waiter_is_passed_over_and_joins_again,
            }
            runtimes {
                a_runtime_that_computes_costs_no_other_its_lock,
            }
        });
    };
}

/// The cases that need a fault proxy in front of the store, as `#[test]`s of the given
/// [`Networked`](crate::Networked) fixture, and those of [`interprocess!`](crate::interprocess). Arguments
/// as of [`contract!`](crate::contract).
#[macro_export]
macro_rules! networked {
    ($fixture:ty) => {
        $crate::networked!($fixture, ());
    };
    ($fixture:ty, $attributes:tt) => {
        $crate::interprocess!($fixture, $attributes);
        $crate::networked!(@cases $fixture, $attributes, $crate::run);
    };
    ($fixture:ty, $attributes:tt, $run:path) => {
        $crate::interprocess!($fixture, $attributes, $run);
        $crate::networked!(@cases $fixture, $attributes, $run);
    };
    (@cases $fixture:ty, $attributes:tt, $run:path) => {
        $crate::cases!($fixture, $run, $attributes {
            round_trips {
                warm_calls_take_one_round_trip,
                idle_waiters_ask_nothing,
                a_client_needs_few_connections,
                what_is_dropped_leaves_no_connection,
            }
            unknown_outcome {
                a_cut_before_the_request_leaves_nothing,
                a_cut_inside_the_request_leaves_nothing,
                a_cut_after_the_request_leaves_nothing,
                a_cut_inside_the_reply_leaves_nothing,
                a_request_that_arrives_late_leaves_nothing,
                a_grant_that_arrives_too_late_is_taken_back,
                a_release_whose_reply_is_cut_frees_the_lock,
                a_release_whose_request_is_cut_is_not_called_done,
                a_renewal_whose_reply_is_cut_keeps_the_lock,
                a_slow_answer_does_not_stretch_a_lease,
                a_renewal_whose_reply_is_held_is_lost_by_the_deadline,
            }
            faults {
                a_closed_port_is_unavailable,
                a_wrong_password_is_rejected,
                a_server_that_stops_in_mid_call_is_noticed_in_time,
                a_connection_cut_while_idle_is_not_noticed,
                a_waiter_whose_connection_is_cut_is_still_woken,
                cuts_never_let_two_hold,
            }
            silence {
                connections_that_go_mute_cost_no_guard_its_lock,
                a_store_that_stops_ends_no_wait,
                a_drain_of_a_silent_store_says_what_is_left,
            }
            wakeups {
                no_waiter_is_woken_without_a_reason,
            }
        });
    };
}

/// The whole suite, as `#[test]`s of the given fixture: call it at the root of a test binary, or set
/// [`HOLDER_TEST`](crate::Fixture::HOLDER_TEST).
///
/// The fixture of a store with a server is [`Networked`](crate::Networked). Without a server the cases are
/// ignored, with a message that says how to run them; when they are asked for and the server cannot be
/// reached, they fail. An embedded store has no server and gives no such message: all cases that need no
/// proxy run in plain `cargo test`.
///
/// ```ignore
/// glock_testing::conformance!(Redis, "needs a server: run `cargo xtask integration redis`");
/// glock_testing::conformance!(Sqlite);
/// ```
#[macro_export]
macro_rules! conformance {
    ($fixture:ty) => {
        $crate::contract!($fixture);
        $crate::interprocess!($fixture);
    };
    ($fixture:ty, $why_ignored:literal) => {
        $crate::contract!($fixture, (#[ignore = $why_ignored]));
        $crate::networked!($fixture, (#[ignore = $why_ignored]));
    };
}
