//! `admin_conformance!`: the list of the cases of `LockAdmin`.

/// The cases of [`LockAdmin`](glock_core::LockAdmin), as `#[test]`s of the given [`Fixture`](crate::Fixture), whose lock
/// implements it. Arguments as of [`contract!`](crate::contract).
#[macro_export]
macro_rules! admin_contract {
    ($fixture:ty) => {
        $crate::admin_contract!($fixture, ());
    };
    ($fixture:ty, $attributes:tt) => {
        $crate::admin_contract!($fixture, $attributes, $crate::run);
    };
    ($fixture:ty, $attributes:tt, $run:path) => {
        $crate::cases!($fixture, $run, $attributes {
            admin {
                what_is_held_is_listed,
                a_listing_keeps_to_its_prefix,
                a_listing_goes_on_over_its_pages,
                an_expired_hold_is_not_listed,
                a_forced_release_passes_the_lock_on,
                a_forced_release_ends_no_other_hold,
                a_guard_learns_of_a_forced_release,
                a_forced_release_dropped_anywhere_is_carried_out,
                a_preflight_finds_what_scripts_can_name,
            }
        });
    };
}

/// Those that need a socket, of a [`Networked`](crate::Networked) fixture.
#[macro_export]
macro_rules! admin_networked {
    ($fixture:ty) => {
        $crate::admin_networked!($fixture, ());
    };
    ($fixture:ty, $attributes:tt) => {
        $crate::admin_networked!($fixture, $attributes, $crate::run);
    };
    ($fixture:ty, $attributes:tt, $run:path) => {
        $crate::cases!($fixture, $run, $attributes {
            admin_faults {
                an_operator_learns_that_the_store_is_gone,
                an_operator_with_a_wrong_password_is_refused,
            }
        });
    };
}

/// All cases of [`LockAdmin`](glock_core::LockAdmin), as [`conformance!`](crate::conformance) has those of
/// [`Lock`](glock_core::Lock).
#[macro_export]
macro_rules! admin_conformance {
    ($fixture:ty, $why_ignored:literal) => {
        $crate::admin_contract!($fixture, (#[ignore = $why_ignored]));
        $crate::admin_networked!($fixture, (#[ignore = $why_ignored]));
    };
}
