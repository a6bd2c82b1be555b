//! Signals to a server and to all its children.

use std::{
    fs, io,
    process::{Command, Stdio},
};

/// Sends a signal to the process and its descendants, and gives those.
///
/// Postgres serves each client in a child with a session of its own, which no signal to a group reaches.
pub(crate) fn signal_tree(signal: &str, root: u32) -> io::Result<Vec<u32>> {
    // Listed first: a killed parent no longer leads to its children.
    let children = tree(root).split_off(1);
    signal_one(signal, root)?;
    if !children.is_empty() {
        // One that has ended in the meantime is no failure.
        kill(signal, &children)?;
    }
    Ok(children)
}

/// Whether the process has ended, reaped or not.
pub(crate) fn has_ended(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |stat| field(&stat, 0).is_none_or(|state| ["Z", "X"].contains(&state)))
}

/// Whether each thread of the process is stopped, as by SIGSTOP, or has ended. Until the last one is, it may
/// still reply to a client.
pub(crate) fn is_stopped(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads.into_iter().all(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat"));
        stat.map_or(true, |stat| {
            field(&stat, 0).is_none_or(|state| ["T", "Z", "X"].contains(&state))
        })
    })
}

/// Sends a signal to one process.
pub(crate) fn signal_one(signal: &str, pid: u32) -> io::Result<()> {
    if kill(signal, &[pid])? {
        return Ok(());
    }
    Err(io::Error::other(format!("process {pid} takes no {signal}")))
}

/// The shell's own `kill`, because a small machine has no other.
fn kill(signal: &str, pids: &[u32]) -> io::Result<bool> {
    let mut command = Command::new("sh");
    command.args(["-c", r#"kill -s "$@" 2>/dev/null"#, "sh", signal]);
    command.args(pids.iter().map(ToString::to_string));
    Ok(command.stdin(Stdio::null()).status()?.success())
}

/// The process and its descendants, each before its children.
fn tree(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = processes().collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        let children = parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid);
        found.extend(children.collect::<Vec<_>>());
        next += 1;
    }
    found
}

/// Every process with its parent.
fn processes() -> impl Iterator<Item = (u32, u32)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        Some((pid, parent_in(&stat)?))
    })
}

fn parent_in(stat: &str) -> Option<u32> {
    field(stat, 1)?.parse().ok()
}

/// A field behind the name, which stands in brackets and has anything in it.
fn field(stat: &str, index: usize) -> Option<&str> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_found_behind_any_name() {
        assert_eq!(parent_in("12 (a) S (b) S 7 12 12 0"), Some(7));
        assert_eq!(parent_in("12 (sh) S 1 12"), Some(1));
        assert_eq!(parent_in(""), None);
    }

    #[test]
    fn a_signal_reaches_children_too() {
        let mut parent = Command::new("sh").args(["-c", "sleep 60 & wait"]).spawn().unwrap();
        // The shell needs a moment to start its child.
        for _ in 0..200 {
            if tree(parent.id()).len() == 2 {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let pids = tree(parent.id());
        assert_eq!(pids.len(), 2);
        assert!(pids.iter().all(|pid| !has_ended(*pid)));
        assert_eq!(signal_tree("KILL", parent.id()).unwrap(), pids[1..]);
        parent.wait().unwrap();
        assert!(has_ended(parent.id()));
        assert!(signal_one("CONT", parent.id()).is_err());
    }
}
