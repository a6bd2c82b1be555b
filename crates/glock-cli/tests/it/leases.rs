//! `acquire`, `renew`, `release`: leases for scripts.

use std::{fs, io::Write as _, os::unix::fs::PermissionsExt as _, process::Stdio};

use crate::support::{Ended, Place};

#[test]
fn a_lease_in_a_file_is_its_owner_s_alone_and_can_be_renewed_and_released_once() {
    let place = Place::new();
    let file = place.path("lease");
    let path = file.display().to_string();
    let acquired = place.output(&["acquire", "x", "--ttl", "1m", "--lease-file", &path]);
    assert_eq!((acquired.status, &*acquired.stdout), (0, ""), "{acquired:?}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(place.output(&["run", "x", "--no-wait", "--", "true"]).status, 75);
    assert_eq!(place.output(&["renew", "--ttl", "2m", "--lease-file", &path]).status, 0);
    let other = place.output(&["release", "y", "--lease-file", &path]);
    assert_eq!(other.status, 64, "{other:?}");
    assert_eq!(place.output(&["release", "x", "--lease-file", &path]).status, 0);
    for gone in [
        place.output(&["release", "--lease-file", &path]),
        place.output(&["renew", "--lease-file", &path]),
    ] {
        assert_eq!(gone.status, 76, "{gone:?}");
    }
}

#[test]
fn a_hold_that_would_end_with_its_process_is_not_taken() {
    let place = Place::new();
    for url in [
        "zk://127.0.0.1:1",
        "hazelcast://127.0.0.1:1?lock=fenced",
        "hazelcast://127.0.0.1:1?lock=map",
    ] {
        let refused = place.output(&["acquire", "x", "--url", url]);
        assert_eq!(refused.status, 64, "{url}: {refused:?}");
        assert!(refused.stderr.contains("`glock run`"), "{url}: {refused:?}");
    }
}

#[test]
fn a_lease_on_standard_output_is_read_from_standard_input() {
    let place = Place::new();
    let lease = place.output(&["acquire", "x"]).stdout;
    let mut release = place.glock(&["release"]).stdin(Stdio::piped()).spawn().unwrap();
    release.stdin.take().unwrap().write_all(lease.as_bytes()).unwrap();
    let released = Ended::of(release.wait_with_output().unwrap());
    assert_eq!(released.status, 0, "{released:?}");
    let secret = lease.trim().split(':').nth(4).unwrap();
    assert!(!format!("{released:?}").contains(secret), "the secret is shown");
}

#[test]
fn a_lease_of_another_store_is_not_held_here() {
    let (here, there) = (Place::new(), Place::new());
    let path = here.path("lease").display().to_string();
    assert_eq!(there.output(&["acquire", "x", "--lease-file", &path]).status, 0);
    assert_eq!(here.output(&["release", "--lease-file", &path]).status, 76);
    assert_eq!(there.output(&["release", "--lease-file", &path]).status, 0);
}

#[test]
fn an_acquire_that_cannot_write_its_lease_leaves_no_lock() {
    let place = Place::new();
    let path = place.path("missing/lease").display().to_string();
    let failed = place.output(&["acquire", "x", "--lease-file", &path]);
    assert_eq!(failed.status, 66, "{failed:?}");
    assert_eq!(place.output(&["inspect", "x", "--json"]).json()["held"], false);
}
