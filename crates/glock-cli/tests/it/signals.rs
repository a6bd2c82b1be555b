//! `run` and signals: which end a wait, which reach the command, and that none suspends glock.

use std::{fs, os::unix::process::CommandExt as _, thread, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    run::{pid_of, until_there},
    support::{Ended, PATIENCE, Place, ended, lines_of, until},
};

#[test]
fn signals_reach_the_command_which_decides() {
    let place = Place::new();
    let ready = place.path("ready");
    let script = "trap 'echo got; exit 9' TERM";
    let script = format!("{script}; : > '{}'; while :; do sleep 0.05; done", ready.display());
    let holder = place.hold("x", "30s", &script);
    until("the command decides", || ready.exists());
    kill(pid_of(&holder), Signal::SIGTERM).unwrap();
    let holder = ended(holder);
    assert_eq!((holder.status, &*holder.stdout), (9, "got\n"), "{holder:?}");
}

/// A `nohup` before glock holds for the command too.
#[test]
fn a_signal_that_glock_was_told_to_ignore_is_ignored_by_the_command() {
    let place = Place::new();
    let script = "trap '' HUP; exec \"$0\" run x -- sh -c 'kill -HUP $$; echo alive'";
    let run = Ended::of(place.shell(script).output().unwrap());
    assert_eq!((run.status, &*run.stdout), (0, "alive\n"), "{run:?}");
}

#[test]
fn a_signal_that_glock_was_told_to_ignore_does_not_end_its_wait() {
    let place = Place::new();
    let end = place.path("end");
    let holder = place.hold("x", "30s", &until_there(&end));
    let script = "trap '' HUP QUIT; exec \"$0\" run x -- echo ran";
    let mut waiter = place.shell(script).spawn().unwrap();
    let said = lines_of(waiter.stderr.take().unwrap());
    let line = said.recv_timeout(PATIENCE).unwrap();
    assert!(line.contains("waiting for `x`"), "{line}");
    for signal in [Signal::SIGHUP, Signal::SIGQUIT] {
        kill(pid_of(&waiter), signal).unwrap();
    }
    fs::write(&end, "").unwrap();
    let waiter = ended(waiter);
    assert_eq!((waiter.status, &*waiter.stdout), (0, "ran\n"), "{waiter:?}");
    assert_eq!(ended(holder).status, 0);
}

/// It would be passed on to the command later, and end that.
#[test]
fn a_signal_that_would_end_a_process_ends_a_wait() {
    let place = Place::new();
    let holder = place.hold("x", "30s", "sleep 300");
    let signals =
        [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1];
    for signal in signals {
        for arguments in [&["run", "x", "--", "echo", "ran"][..], &["acquire", "x"]] {
            let mut waiter = place.glock(arguments).spawn().unwrap();
            let said = lines_of(waiter.stderr.take().unwrap());
            said.recv_timeout(PATIENCE).expect("it says who has the lock");
            kill(pid_of(&waiter), signal).unwrap();
            let line = said.recv_timeout(PATIENCE).unwrap();
            assert!(line.contains("ended the wait"), "{line}");
            let waiter = ended(waiter);
            assert_eq!((waiter.status, &*waiter.stdout), (128 + signal as i32, ""), "{waiter:?}");
        }
    }
    kill(pid_of(&holder), Signal::SIGTERM).unwrap();
    assert_eq!(ended(holder).status, 128 + 15);
}

/// It tells of the end of the command.
#[test]
fn a_signal_that_was_blocked_when_glock_started_is_seen() {
    let place = Place::new();
    let script = "exec env --block-signal=CHLD,TERM \"$0\" run x --ttl 10m -- true";
    let run = ended(place.shell(script).spawn().unwrap());
    assert_eq!(run.status, 0, "{run:?}");
}

#[test]
fn a_signal_without_a_name_ends_a_command_as_others_do() {
    let run = Place::new().output(&["run", "x", "--", "sh", "-c", "kill -40 $$"]);
    assert_eq!((run.status, &*run.stderr), (128 + 40, ""), "{run:?}");
}

/// As by Ctrl-Z where the command does not have the terminal. Stopped, glock would not renew, and the command would
/// go on beside the next holder.
#[test]
fn no_stop_signal_suspends_glock_while_the_command_runs() {
    const TTL: Duration = Duration::from_secs(2);
    let place = Place::new();
    let (started, end) = (place.path("started"), place.path("end"));
    let script = format!(
        "echo > '{}'; while [ ! -e '{}' ]; do sleep 0.05; done",
        started.display(),
        end.display()
    );
    // In a group of its own: a group without a parent in the same session is never stopped.
    let mut glock = place.glock(&["run", "x", "--ttl", "2s", "--", "sh", "-c", &script]);
    let glock = glock.process_group(0).spawn().unwrap();
    until("the command runs", || started.exists());
    let (token, pid) = (place.token("x"), Pid::from_raw(glock.id().try_into().unwrap()));
    for signal in [Signal::SIGTSTP, Signal::SIGTTIN] {
        kill(pid, signal).unwrap();
    }
    thread::sleep(TTL * 2);
    let is_stopped = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") T ");
    // So that it ends in any case.
    kill(pid, Signal::SIGCONT).unwrap();
    assert!(!is_stopped, "glock was stopped");
    assert_eq!(place.token("x"), token);
    fs::write(&end, "").unwrap();
    let ended = Ended::of(glock.wait_with_output().unwrap());
    assert_eq!(ended.status, 0, "{ended:?}");
}

/// As one is that reads from a terminal which it has not got.
#[test]
fn a_command_that_stops_again_and_again_is_resumed_and_said_to_be_once() {
    let place = Place::new();
    let script = "for n in 1 2 3 4 5 6; do kill -STOP $$; done; echo done";
    let ended = place.output(&["run", "x", "--", "sh", "-c", script]);
    assert_eq!((ended.status, ended.stdout.trim()), (0, "done"), "{ended:?}");
    assert_eq!(ended.stderr.matches("not suspended").count(), 1, "{ended:?}");
}
