//! The cases of `admin_contract!` and `admin_networked!`.

use crate::flaw::{Flaw, Row};

pub(super) const ADMIN: &[Row] = &[
    (
        "admin::what_is_held_is_listed",
        &[
            (Flaw::HolderNotShown, "right: [\"a\", \"c\"]"),
            (Flaw::LabelInAscii, "web-3"),
            (Flaw::ShowsMoreThanIsLeft, "are listed"),
            (Flaw::OwnerInLabel, "web-3"),
        ],
    ),
    (
        "admin::a_listing_keeps_to_its_prefix",
        &[
            (Flaw::ListPrefixIgnored, "listed for the prefix"),
            (Flaw::ListPrefixIsPattern, "listed for the prefix"),
            (Flaw::NamespacesIgnored, "listed for the prefix"),
        ],
    ),
    (
        "admin::a_listing_goes_on_over_its_pages",
        &[
            (Flaw::ListsOnePage, "listed in pages of 4"),
            (Flaw::SkipsBetweenPages, "listed in pages of 4"),
            (Flaw::PageMaxIgnored, "where 4 were requested"),
        ],
    ),
    (
        "admin::an_expired_hold_is_not_listed",
        &[(Flaw::ShowsTheExpired, "right: [\"\"; 0]|right: []")],
    ),
    (
        "admin::a_forced_release_passes_the_lock_on",
        &[
            (Flaw::ForceKeepsRecord, "a forced release wakes the waiter"),
            (Flaw::ForceDoesNotWake, "a forced release wakes the waiter"),
            (Flaw::ForceRestartsToken, " after "),
        ],
    ),
    (
        "admin::a_forced_release_ends_no_other_hold",
        &[
            (Flaw::ForceIgnoresToken, "was ended by"),
            (Flaw::ForceTakesOlderHolds, "was ended by"),
            (Flaw::ForceKeepsRecord, "it was ended before"),
        ],
    ),
    ("admin::a_guard_learns_of_a_forced_release", &[(Flaw::RenewAlwaysOk, "the loss is reported")]),
    (
        "admin::a_forced_release_dropped_anywhere_is_carried_out",
        &[(Flaw::ForceStopsHalfWay, "is still held")],
    ),
    (
        "admin::a_preflight_finds_what_scripts_can_name",
        &[(Flaw::WarningWithoutCode, "is no code of this store")],
    ),
    (
        "admin_faults::an_operator_learns_that_the_store_is_gone",
        &[
            (Flaw::OutageIsNothingFound, "an error"),
            (Flaw::ClosedPortIsUnknown, "left: Some(Unknown)"),
        ],
    ),
    (
        "admin_faults::an_operator_with_a_wrong_password_is_refused",
        &[
            (Flaw::WrongPasswordIsUnavailable, "left: Some(Unavailable)"),
            (Flaw::PasswordInError, "the password is shown"),
        ],
    ),
];
