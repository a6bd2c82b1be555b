//! What a person sees and types on a terminal, on any store.

use std::fs;

use crate::support::{
    Place, ended, is_alive, number_in,
    session::{CTRL_C, CTRL_Z, Session},
    until,
};

/// Makes a test of each promise, on a place that the expression makes. A reason to ignore them may follow.
macro_rules! on_a_terminal {
    ($place:expr $(, $why:literal)?) => {
        on_a_terminal! {
            @each ($place $(, $why)?)
            a_waiter_says_who_has_the_lock_and_ctrl_c_ends_it
            the_next_of_two_runs_starts_when_the_first_ends
            ctrl_c_reaches_the_command_and_frees_the_lock
            ctrl_c_ends_the_script_that_calls_glock
            a_command_reads_from_the_terminal_and_is_not_suspended
            a_command_in_the_background_reads_once_it_is_in_the_foreground
            a_lock_that_is_taken_away_ends_the_command
            a_terminal_that_goes_away_ends_the_command_and_frees_the_lock
            a_watch_shows_what_changes
        }
    };
    (@each $setup:tt $($promise:ident)*) => { $(on_a_terminal! { @one $promise $setup })* };
    (@one $promise:ident ($place:expr $(, $why:literal)?)) => {
        #[test]
        $(#[ignore = $why])?
        fn $promise() {
            crate::support::terminal::$promise(&$place);
        }
    };
}
pub(crate) use on_a_terminal;

fn is_held(place: &Place, name: &str) -> bool {
    place.output(&["inspect", name, "--json"]).json()["held"] == true
}

pub(crate) fn a_waiter_says_who_has_the_lock_and_ctrl_c_ends_it(place: &Place) {
    let mut holder = place.hold("x", "30s", "exec sleep 300");
    let token = place.token("x");
    let mut waiter = Session::start(place, &["run", "x", "--", "echo", "never"]);
    waiter.expect("held by");
    waiter.expect(&format!("token {token}"));
    waiter.send(CTRL_C);
    assert_eq!(waiter.status(), 130);
    assert_eq!(place.token("x"), token, "the holder is not disturbed");
    holder.kill().unwrap();
    holder.wait().unwrap();
}

pub(crate) fn the_next_of_two_runs_starts_when_the_first_ends(place: &Place) {
    let end = place.path("end");
    let script = format!("echo one runs; while [ ! -e '{}' ]; do sleep 0.05; done", end.display());
    let mut one = Session::start(place, &["run", "x", "--", "sh", "-c", &script]);
    one.expect("one runs");
    let mut other = Session::start(place, &["run", "x", "--", "echo", "other runs"]);
    other.expect("held by");
    fs::write(&end, "").unwrap();
    other.expect("other runs");
    assert_eq!((one.status(), other.status()), (0, 0));
    assert!(!is_held(place, "x"));
}

pub(crate) fn ctrl_c_reaches_the_command_and_frees_the_lock(place: &Place) {
    let script = "trap 'echo stopped; exit 3' INT; echo ready; while :; do sleep 0.05; done";
    let mut run = Session::start(place, &["run", "x", "--", "sh", "-c", script]);
    run.expect("ready");
    run.send(CTRL_C);
    run.expect("stopped");
    assert_eq!(run.status(), 3);
    assert!(!is_held(place, "x"));
}

/// Its signal goes to the command's process group, to which the script does not belong.
pub(crate) fn ctrl_c_ends_the_script_that_calls_glock(place: &Place) {
    let script = "\"$0\" run x -- sh -c 'echo ready; exec sleep 300'; echo went on";
    let mut shell = Session::script(place, script);
    shell.expect("ready");
    shell.send(CTRL_C);
    assert_eq!(shell.status_without("went on"), 128 + 2);
    assert!(!is_held(place, "x"));
}

pub(crate) fn a_command_reads_from_the_terminal_and_is_not_suspended(place: &Place) {
    let script = "echo ready; read line; echo \"got $line\"";
    let mut run = Session::start(place, &["run", "x", "--", "sh", "-c", script]);
    run.expect("ready");
    run.send(CTRL_Z);
    run.expect("not suspended");
    run.send("hello\n");
    run.expect("got hello");
    assert_eq!(run.status(), 0);
}

pub(crate) fn a_command_in_the_background_reads_once_it_is_in_the_foreground(place: &Place) {
    let script = "set -m; \"$0\" run x -- sh -c 'read line; echo \"got $line\"' & \
                  read line; fg; echo \"status $?\"";
    let mut shell = Session::script(place, script);
    shell.expect("not suspended");
    // The first line is the shell's.
    shell.send("go\n");
    shell.send("hello\n");
    shell.expect("got hello");
    shell.expect("status 0");
    assert_eq!(shell.status(), 0);
}

pub(crate) fn a_lock_that_is_taken_away_ends_the_command(place: &Place) {
    let pid = place.path("pid");
    let script = format!("echo $$ > '{}'; exec sleep 300", pid.display());
    let mut run = Session::start(place, &["run", "x", "--ttl", "6s", "--", "sh", "-c", &script]);
    let pid = number_in(&pid);
    let token = place.token("x").to_string();
    assert_eq!(place.output(&["force-release", "x", "--token", &token]).status, 0);
    run.expect("the lock was lost");
    assert_eq!(run.status(), 76);
    assert!(!is_alive(pid), "the command lives on");
}

pub(crate) fn a_terminal_that_goes_away_ends_the_command_and_frees_the_lock(place: &Place) {
    let pid = place.path("pid");
    let script = format!("echo $$ > '{}'; exec sleep 300", pid.display());
    let run = Session::start(place, &["run", "x", "--", "sh", "-c", &script]);
    let pid = number_in(&pid);
    run.hang_up();
    until("the command is gone", || !is_alive(pid));
    assert!(!is_held(place, "x"));
}

pub(crate) fn a_watch_shows_what_changes(place: &Place) {
    let mut watch = Session::start(place, &["watch", "--interval", "50ms"]);
    watch.expect("0 held");
    let holder = place.hold("nightly", "30s", "sleep 1");
    watch.expect("nightly");
    assert_eq!(ended(holder).status, 0);
    watch.expect("0 held");
    watch.hang_up();
}
