//! `run`: the command's environment, status, signals and end.

use std::{fs, os::unix::process::CommandExt as _, path::Path, thread, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::time::Instant;

use crate::support::{Ended, PATIENCE, Place, ended, is_alive, lines_of, number_in, until};

/// How many commands may end between the time by which something was promised and its coming: a constant time
/// would be too short on a busy machine.
const LATE_MAX: u32 = 20;

/// The only process that a process has started.
fn child_of(parent: &std::process::Child) -> i32 {
    let children = format!("/proc/{0}/task/{0}/children", parent.id());
    number_in(Path::new(&children))
}

/// A script that ends once a file is there.
fn until_there(file: &Path) -> String {
    format!("while [ ! -e '{}' ]; do sleep 0.05; done", file.display())
}

fn pid_of(child: &std::process::Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap())
}

#[test]
fn the_command_gets_its_lock_and_glock_its_status() {
    let place = Place::new();
    let script =
        "echo \"$GLOCK_NAME $GLOCK_FENCE\"; echo \"$GLOCK_LEASE\" | grep -q '^glock1:'; exit 7";
    let run = place.output(&["run", "a/b c", "--", "sh", "-c", script]);
    let (name, token) = run.stdout.trim().rsplit_once(' ').unwrap();
    assert_eq!((run.status, name), (7, "a/b c"), "{run:?}");
    assert!(token.parse::<u64>().unwrap() > 0);
    assert_eq!(run.stderr, "", "nothing is said of what goes well");
    assert_eq!(place.output(&["inspect", "a/b c", "--json"]).json()["held"], false);
}

#[test]
fn a_command_that_a_signal_ends_has_the_shell_s_status() {
    let place = Place::new();
    let run = place.output(&["run", "x", "--", "sh", "-c", "kill -KILL $$"]);
    assert_eq!(run.status, 128 + 9, "{run:?}");
}

#[test]
fn a_held_lock_is_not_acquired_and_says_who_has_it() {
    let place = Place::new();
    let mut holder = place.hold("x", "30s", "sleep 300");
    let token = place.token("x");
    let refused = place.output(&["run", "x", "--no-wait", "--", "true"]);
    assert_eq!(refused.status, 75, "{refused:?}");
    assert!(refused.stderr.contains(&format!("token {token}")), "{refused:?}");
    assert_eq!(refused.stderr.lines().count(), 1, "{refused:?}");
    let late = place.output(&["run", "x", "--wait", "300ms", "--", "true"]);
    assert_eq!(late.status, 75, "{late:?}");
    kill(pid_of(&holder), Signal::SIGTERM).unwrap();
    holder.wait().unwrap();
}

#[test]
fn a_waiter_starts_when_the_holder_ends() {
    let place = Place::new();
    let log = place.path("log");
    let script = |word: &str| format!("echo {word} >> '{}'", log.display());
    let holder = place.hold("x", "30s", &format!("sleep 1; {}", script("first")));
    let waiter = place.output(&["run", "x", "--", "sh", "-c", &script("second")]);
    assert_eq!((waiter.status, ended(holder).status), (0, 0), "{waiter:?}");
    assert_eq!(fs::read_to_string(&log).unwrap(), "first\nsecond\n");
}

#[test]
fn signals_reach_the_command_which_decides() {
    let place = Place::new();
    let script = "trap 'echo got; exit 9' TERM; while :; do sleep 0.05; done";
    let holder = place.hold("x", "30s", script);
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

/// A glock that waits ends the process that is to become the command when it ends itself.
#[test]
fn a_glock_that_is_killed_while_it_waits_starts_no_command() {
    let place = Place::new();
    let end = place.path("end");
    let holder = place.hold("x", "30s", &until_there(&end));
    let ran = place.path("ran");
    let script = format!("echo > '{}'", ran.display());
    let mut waiter = place.glock(&["run", "x", "--", "sh", "-c", &script]).spawn().unwrap();
    let standby = child_of(&waiter);
    waiter.kill().unwrap();
    waiter.wait().unwrap();
    until("the process that would have been the command is gone", || !is_alive(standby));
    fs::write(&end, "").unwrap();
    assert_eq!(ended(holder).status, 0);
    assert!(!ran.exists());
}

#[test]
fn a_command_whose_process_was_killed_before_it_was_started_leaves_the_lock_free() {
    let place = Place::new();
    let end = place.path("end");
    let holder = place.hold("x", "30s", &until_there(&end));
    let waiter = place.glock(&["run", "x", "--", "echo", "ran"]).spawn().unwrap();
    kill(Pid::from_raw(child_of(&waiter)), Signal::SIGKILL).unwrap();
    fs::write(&end, "").unwrap();
    let waiter = ended(waiter);
    assert_eq!((waiter.status, &*waiter.stdout), (126, ""), "{waiter:?}");
    assert!(waiter.stderr.contains("cannot start the command"), "{waiter:?}");
    assert_eq!(ended(holder).status, 0);
    assert_eq!(place.output(&["inspect", "x", "--json"]).json()["held"], false);
}

/// With what it has started, a process that ignores SIGTERM among that. They have other outputs than glock, which the
/// test reads to their end.
#[test]
fn a_command_whose_lock_is_taken_away_is_ended_before_its_lease() {
    let place = Place::new();
    let (stubborn, ttl) = (place.path("stubborn"), Duration::from_secs(12));
    let script = format!(
        "exec > /dev/null 2>&1; \
         sh -c 'trap \"\" TERM; echo $$ > \"{}\"; while :; do sleep 0.1; done' & sleep 300",
        stubborn.display()
    );
    let began = Instant::now();
    let holder = place.hold("x", "12s", &script);
    let stubborn = number_in(&stubborn);
    let token = place.token("x").to_string();
    let forced = place.output(&["force-release", "x", "--token", &token]);
    assert_eq!(forced.status, 0, "{forced:?}");
    let holder = ended(holder);
    assert_eq!(holder.status, 76, "{holder:?}");
    assert!(holder.stderr.contains("lost"), "{holder:?}");
    assert!(!is_alive(stubborn), "what the command had started lives on");
    // The last lease began no later than the forced release, a renewal before it.
    assert!(began.elapsed() < ttl * 2, "ended after {:?}", began.elapsed());
}

/// The command goes with it, and the next waiter starts within the TTL and a second.
#[test]
fn a_killed_glock_takes_its_command_along() {
    let (place, wait_max) = (Place::new(), Duration::from_secs(3 + 1));
    let (command, next) = (place.path("command"), place.path("next"));
    let script = format!("echo $$ > '{}'; exec sleep 300", command.display());
    let mut holder = place.hold("x", "3s", &script);
    let command = number_in(&command);
    let script = format!("echo > '{}'", next.display());
    let waiter = place.glock(&["run", "x", "--", "sh", "-c", &script]).spawn().unwrap();
    let standby = child_of(&waiter);
    assert!(is_alive(standby));
    holder.kill().unwrap();
    let since = Instant::now();
    holder.wait().unwrap();
    until("the command is gone", || !is_alive(command));
    // On a busy machine, a few commands of this kind later.
    let mut late = 0;
    while !next.exists() {
        late += u32::from(since.elapsed() > wait_max);
        assert!(late <= LATE_MAX, "the next waiter waits for {:?}", since.elapsed());
        place.output(&["inspect", "x"]);
    }
    assert_eq!(ended(waiter).status, 0);
}

#[test]
fn a_command_that_cannot_be_started_leaves_the_lock_free() {
    let place = Place::new();
    let missing = place.output(&["run", "x", "--", "no-such-command-anywhere"]);
    assert_eq!(missing.status, 127, "{missing:?}");
    assert!(missing.stderr.contains("no-such-command-anywhere"), "{missing:?}");
    let directory = place.path("").display().to_string();
    assert_eq!(place.output(&["run", "x", "--", &directory]).status, 126);
    assert_eq!(place.output(&["inspect", "x", "--json"]).json()["held"], false);
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
