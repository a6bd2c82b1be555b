//! Three members, with a CP group of all three: the whole suite for fenced locks, and for the map's what
//! three members may do in another way than one: `cargo xtask integration hazelcast --native`.
#![allow(clippy::unwrap_used, reason = "a fixture that cannot do its part is a failed test")]

#[allow(dead_code, reason = "a part of it is for the other tests")]
mod support;

use std::{fs, os::unix::process::parent_id, sync::OnceLock};

use glock_hazelcast::LockAdmin as _;
use glock_testing::{Fixture as _, process::role};
use support::{
    cluster::{Cluster, Kind, dir},
    fixture::{HazelcastCp, HazelcastMap},
};

/// No case of the map's holds a lock in another process.
const HOLDER_TEST: &str = "holder_process";

/// One cluster for all cases of this process, and for the processes that they start.
static CLUSTER: OnceLock<Cluster> = OnceLock::new();

/// Where the suite's members are.
fn servers() -> String {
    if role().is_some() {
        return fs::read_to_string(dir(parent_id(), 0).join("n0/addresses")).unwrap();
    }
    let start = || {
        let cluster = Cluster::start(Kind::Cp);
        let note = dir(std::process::id(), 0).join("n0/addresses");
        fs::write(note, cluster.addresses()).unwrap();
        cluster
    };
    CLUSTER.get_or_init(start).addresses()
}

/// Nothing is to be warned of where three members keep both kinds of lock.
#[tokio::test]
#[ignore = "needs a cluster: run `cargo xtask integration hazelcast --native`"]
async fn a_preflight_finds_nothing_on_three_members() {
    let store = HazelcastMap::open(glock_testing::fresh_namespace()).await;
    assert_eq!(store.client().await.preflight().await.unwrap(), []);
    let store = HazelcastCp::open(glock_testing::fresh_namespace()).await;
    assert_eq!(store.client().await.preflight().await.unwrap(), []);
}

/// Locks of the map.
mod map {
    use super::*;

    glock_testing::cases!(
        HazelcastMap,
        glock_testing::run,
        (#[ignore = "needs a cluster: run `cargo xtask integration hazelcast --native`"]) {
            exclusion {
                a_second_owner_is_refused,
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
                a_lease_travels_as_text,
            }
            renewal {
                a_renewed_lease_outlives_its_first_ttl,
                an_old_lease_is_as_good_as_the_renewed,
                an_evicted_hold_is_lost_in_time,
            }
            fencing {
                tokens_grow_across_release,
                tokens_grow_across_expiry,
                tokens_grow_when_the_store_forgets,
            }
            waiting {
                a_waiter_is_woken_by_a_release,
                a_waiter_gets_a_lock_that_runs_out,
                a_release_just_before_the_sleep_is_not_missed,
                waiters_of_two_clients_are_all_served,
            }
            ids {
                hostile_ids_are_locks_of_their_own,
                ids_that_differ_are_two_locks,
            }
            round_trips {
                warm_calls_take_one_round_trip,
            }
            unknown_outcome {
                a_cut_after_the_request_leaves_nothing,
                a_cut_inside_the_reply_leaves_nothing,
                a_request_that_arrives_late_leaves_nothing,
            }
            faults {
                cuts_never_let_two_hold,
            }
            silence {
                connections_that_go_mute_cost_no_guard_its_lock,
            }
            admin {
                what_is_held_is_listed,
                a_listing_keeps_to_its_prefix,
                a_listing_goes_on_over_its_pages,
                a_forced_release_passes_the_lock_on,
                a_forced_release_ends_no_other_hold,
                a_forced_release_dropped_anywhere_is_carried_out,
                a_preflight_finds_what_scripts_can_name,
            }
        }
    );
}

/// Fenced locks.
mod fenced {
    use super::*;

    glock_testing::conformance!(
        HazelcastCp,
        "needs a cluster: run `cargo xtask integration hazelcast --native`"
    );
    glock_testing::admin_conformance!(
        HazelcastCp,
        "needs a cluster: run `cargo xtask integration hazelcast --native`"
    );
}
