//! `run`: the command's environment, status, signals and end.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Stdio, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::time::Instant;

use crate::support::{Place, ended, is_alive, number_in, until};

/// How many commands may end between the time by which something was promised and its coming: a constant time
/// would be too short on a busy machine.
const LATE_MAX: u32 = 20;

/// The only process that a process has started.
fn child_of(parent: &std::process::Child) -> i32 {
    let children = format!("/proc/{0}/task/{0}/children", parent.id());
    number_in(Path::new(&children))
}

/// A script that ends once a file is there.
pub(crate) fn until_there(file: &Path) -> String {
    format!("while [ ! -e '{}' ]; do sleep 0.05; done", file.display())
}

pub(crate) fn pid_of(child: &std::process::Child) -> Pid {
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

/// Here nobody reads the pipe; a terminal that Ctrl-S stops takes nothing either.
#[test]
fn a_standard_error_that_takes_nothing_holds_nothing_up() {
    let place = Place::new();
    let (pid, full) = (place.path("pid"), place.path("full"));
    let script = format!(
        "trap '' TERM; echo $$ > '{}'; head -c 65536 /dev/zero >&2; echo > '{}'; \
         kill -STOP $$; exec sleep 300 2> /dev/null",
        pid.display(),
        full.display()
    );
    let mut run = place.glock(&["run", "x", "--ttl", "3s", "--", "sh", "-c", &script]);
    let mut glock = run.stdout(Stdio::null()).spawn().unwrap();
    let pid = number_in(&pid);
    until("nothing more fits into the pipe", || full.exists());
    let token = place.token("x").to_string();
    assert_eq!(place.output(&["force-release", "x", "--token", &token]).status, 0);
    until("the command is gone", || !is_alive(pid));
    until("glock ends", || glock.try_wait().unwrap().is_some());
    assert_eq!(glock.wait().unwrap().code(), Some(76));
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
    assert_eq!(missing.stderr.lines().count(), 1, "{missing:?}");
    let json = place.output(&["--json", "run", "x", "--", "redis://u:CANARY@host"]).stderr;
    assert!(json.contains("\"exit\":127") && !json.contains("CANARY"), "{json}");
    let script = place.path("script");
    fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
    let script = place.output(&["run", "x", "--", &script.display().to_string()]);
    assert_eq!(script.status, 126, "{script:?}");
    assert!(script.stderr.contains("interpreter"), "{script:?}");
    let directory = place.path("").display().to_string();
    assert_eq!(place.output(&["run", "x", "--", &directory]).status, 126);
    assert_eq!(place.output(&["inspect", "x", "--json"]).json()["held"], false);
}
