//! On a terminal: the waiting line, Ctrl-C, Ctrl-Z and the screen.

use std::process::Command;

use expectrl::{ControlCode, Eof, Expect as _, process::unix::WaitStatus, session::OsSession};

use crate::support::{PATIENCE, Place, ended};

fn on_terminal(place: &Place, arguments: &[&str]) -> OsSession {
    let mut command = Command::new(env!("CARGO_BIN_EXE_glock"));
    command
        .args(arguments)
        .env("GLOCK_URL", place.url())
        .env("TERM", "xterm")
        .env_remove("GLOCK_CONFIG");
    command.env_remove("NO_COLOR");
    let mut session = OsSession::spawn(command).unwrap();
    session.set_expect_timeout(Some(PATIENCE));
    session
}

fn status(mut session: OsSession) -> i32 {
    session.expect(Eof).unwrap();
    match session.get_process().wait().unwrap() {
        WaitStatus::Exited(_, status) => status,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_waiter_says_who_has_the_lock_and_ctrl_c_ends_it() {
    let place = Place::new();
    let mut holder = place.hold("x", "30s", "sleep 300");
    let token = place.token("x");
    let mut waiter = on_terminal(&place, &["run", "x", "--", "echo", "never"]);
    waiter.expect("held by").unwrap();
    waiter.expect(format!("token {token}")).unwrap();
    waiter.send(ControlCode::EndOfText).unwrap();
    assert_eq!(status(waiter), 130);
    assert_eq!(place.token("x"), token, "the holder is not disturbed");
    holder.kill().unwrap();
    holder.wait().unwrap();
}

#[test]
fn ctrl_c_reaches_the_command_and_frees_the_lock() {
    let place = Place::new();
    let script = "trap 'echo stopped; exit 3' INT; echo ready; while :; do sleep 0.05; done";
    let mut run = on_terminal(&place, &["run", "x", "--", "sh", "-c", script]);
    run.expect("ready").unwrap();
    run.send(ControlCode::EndOfText).unwrap();
    run.expect("stopped").unwrap();
    assert_eq!(status(run), 3);
    assert_eq!(place.output(&["inspect", "x", "--json"]).json()["held"], false);
}

#[test]
fn a_command_reads_from_the_terminal_and_is_not_suspended() {
    let place = Place::new();
    let script = "echo ready; read line; echo \"got $line\"";
    let mut run = on_terminal(&place, &["run", "x", "--", "sh", "-c", script]);
    run.expect("ready").unwrap();
    run.send(ControlCode::Substitute).unwrap();
    run.expect("not suspended").unwrap();
    run.send_line("hello").unwrap();
    run.expect("got hello").unwrap();
    assert_eq!(status(run), 0);
}

#[test]
fn a_watch_shows_what_changes() {
    let place = Place::new();
    let mut watch = on_terminal(&place, &["watch", "--interval", "50ms"]);
    watch.expect("0 held").unwrap();
    let holder = place.hold("nightly", "30s", "sleep 1");
    watch.expect("nightly").unwrap();
    assert_eq!(ended(holder).status, 0);
    watch.expect("0 held").unwrap();
    watch.send(ControlCode::EndOfText).unwrap();
    watch.expect(Eof).unwrap();
}
