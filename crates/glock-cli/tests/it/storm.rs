//! Many at once on one lock file.

use std::fs;

use crate::support::{Ended, Place};

/// One at a time, all done, tokens in order.
fn all_take_turns(count: usize) {
    let place = Place::new();
    let (log, inside) = (place.path("log"), place.path("inside"));
    let script = format!(
        "mkdir '{inside}' || exit 99; echo $GLOCK_FENCE >> '{log}'; rmdir '{inside}'",
        inside = inside.display(),
        log = log.display()
    );
    let arguments = ["run", "x", "--wait", "10m", "--", "sh", "-c", &script];
    let all: Vec<_> = (0..count).map(|_| place.glock(&arguments).spawn().unwrap()).collect();
    for child in all {
        let child = Ended::of(child.wait_with_output().unwrap());
        assert_eq!(child.status, 0, "{child:?}");
    }
    let tokens = fs::read_to_string(&log).unwrap();
    let tokens: Vec<u64> = tokens.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(tokens.len(), count);
    assert!(tokens.is_sorted_by(|one, next| one < next), "{tokens:?}");
}

#[test]
fn twenty_at_once_take_turns() {
    all_take_turns(20);
}

#[test]
#[ignore = "long: run with --long"]
fn two_hundred_at_once_take_turns() {
    all_take_turns(200);
}
