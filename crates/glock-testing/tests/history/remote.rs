//! A child's lines become records that are never longer than what happened.

use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Write, pipe};
use std::time::Duration;

use glock_testing::history::History;
use glock_testing::history::remote::{Answer, GO, Remote, Reporter};
use tokio::time::{Instant, advance};

use crate::{MS, grant};

/// A reporter whose parent has always answered, and the lines it writes.
struct Child {
    reporter: Reporter<BufReader<PipeReader>, PipeWriter>,
    answers: PipeWriter,
    lines: BufReader<PipeReader>,
}

impl Child {
    fn new() -> Self {
        let ((from_parent, answers), (lines, to_parent)) = (pipe().unwrap(), pipe().unwrap());
        let reporter = Reporter::new(BufReader::new(from_parent), to_parent);
        Self { reporter, answers, lines: BufReader::new(lines) }
    }

    fn acquiring(&mut self, id: &str) {
        writeln!(self.answers, "{GO}").unwrap();
        self.reporter.acquiring(id).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.strip_suffix('\n').unwrap().to_owned()
    }
}

#[tokio::test(start_paused = true)]
async fn however_long_lines_take_a_hold_is_recorded_within_its_true_bounds() {
    let history = History::new();
    let (mut child, mut remote) = (Child::new(), Remote::new(&history, "child"));
    child.acquiring("jobs");
    advance(MS).await;
    assert_eq!(remote.receive(&child.line()).unwrap(), Answer::Go);
    let go = Instant::now();
    advance(3 * MS).await;
    // The child reads the answer 3 ms after it was written.
    child.acquiring("jobs");
    child.line();
    let invoke = Instant::now();
    advance(MS).await;
    let (ok, until) = (Instant::now(), Instant::now() + 100 * MS);
    child.reporter.granted(7, until).unwrap();
    advance(5 * MS).await;
    assert_eq!(remote.receive(&child.line()).unwrap(), Answer::Nothing);

    child.reporter.renewing();
    advance(MS).await;
    let renewed_until = Instant::now() + 200 * MS;
    child.reporter.renewed(renewed_until).unwrap();
    remote.receive(&child.line()).unwrap();

    advance(MS).await;
    let release = Instant::now();
    child.reporter.releasing().unwrap();
    advance(20 * MS).await;
    remote.receive(&child.line()).unwrap();
    child.reporter.released().unwrap();
    remote.receive(&child.line()).unwrap();

    let record = history.records().swap_remove(0);
    let grant = grant(&history, 0);
    let truth = |time| history.since_epoch(time);
    let early = |time| truth(time).saturating_sub(3 * MS);
    assert!(record.invoke <= truth(invoke) && record.invoke <= truth(go));
    assert!(grant.ok >= truth(ok));
    assert_eq!(grant.until, early(until), "earlier by the answer's way");
    assert_eq!(grant.renewals[0].until, early(renewed_until));
    assert_eq!(grant.release, Some(early(release)));
    assert!(grant.released.unwrap() >= truth(release));
    assert_eq!(grant.overdue, Duration::ZERO);
    history.expect_sound();
}

#[tokio::test(start_paused = true)]
async fn a_slow_pipe_is_not_taken_for_a_late_grant() {
    let history = History::new();
    let (mut child, mut remote) = (Child::new(), Remote::new(&history, "child"));
    child.acquiring("jobs");
    remote.receive(&child.line()).unwrap();
    child.reporter.granted(1, Instant::now() + 10 * MS).unwrap();
    advance(50 * MS).await;
    remote.receive(&child.line()).unwrap();
    assert!(grant(&history, 0).end() < grant(&history, 0).ok, "nothing is sure of it");
    history.expect_sound();

    child.acquiring("jobs");
    remote.receive(&child.line()).unwrap();
    advance(50 * MS).await;
    child.reporter.granted(2, Instant::now() - 7 * MS).unwrap();
    remote.receive(&child.line()).unwrap();
    assert_eq!(grant(&history, 1).overdue, 7 * MS);
    assert_eq!(history.check().unwrap_err().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_killed_child_held_until_the_kill_and_a_vanished_one_until_its_last_word() {
    let history = History::new();
    for (index, killed) in [true, false].into_iter().enumerate() {
        let (mut child, mut remote) = (Child::new(), Remote::new(&history, "child"));
        let id = format!("lock {index}");
        child.acquiring(&id);
        remote.receive(&child.line()).unwrap();
        child.reporter.granted(1, Instant::now() + 100 * MS).unwrap();
        let last_word = history.since_epoch(Instant::now());
        remote.receive(&child.line()).unwrap();
        advance(10 * MS).await;
        if killed {
            remote.killing();
        }
        advance(10 * MS).await;
        drop(remote);
        assert_eq!(
            grant(&history, index).end(),
            if killed { last_word + 10 * MS } else { last_word }
        );
    }
}

#[test]
fn tries_without_a_grant_and_losses_are_told_too() {
    let history = History::new();
    let (mut child, mut remote) = (Child::new(), Remote::new(&history, "child"));
    let tells: [fn(&mut Child); 3] = [
        |child| child.reporter.held().unwrap(),
        |child| child.reporter.timed_out().unwrap(),
        |child| child.reporter.unknown().unwrap(),
    ];
    for tell in tells {
        child.acquiring("jobs");
        remote.receive(&child.line()).unwrap();
        tell(&mut child);
        remote.receive(&child.line()).unwrap();
    }
    child.acquiring("jobs");
    remote.receive(&child.line()).unwrap();
    child.reporter.granted(1, Instant::now() + 100 * MS).unwrap();
    remote.receive(&child.line()).unwrap();
    child.reporter.lost().unwrap();
    remote.receive(&child.line()).unwrap();
    assert!(grant(&history, 3).lost.is_some());
    let summary = history.expect_sound();
    assert_eq!((summary.held, summary.timed_out, summary.unknown, summary.grants), (1, 1, 1, 1));
}

#[test]
fn hostile_ids_arrive_as_they_were() {
    for id in ["a b", " ", "line\nline\r", "\\n", "\\", "granted 1 2 3", "💥", ""] {
        let history = History::new();
        let (mut child, mut remote) = (Child::new(), Remote::new(&history, "child"));
        child.acquiring(id);
        let line = child.line();
        assert!(!line.contains(['\n', '\r']), "{line:?}");
        remote.receive(&line).unwrap();
        assert_eq!(&*history.records()[0].id, id);
    }
}

#[test]
fn a_line_that_makes_no_sense_is_refused_and_changes_nothing() {
    let history = History::new();
    let mut remote = Remote::new(&history, "child");
    for line in ["", "granted 1 2 3", "released", "nonsense"] {
        let error = remote.receive(line).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    }
    remote.receive("acquiring jobs").unwrap();
    for line in ["released", "granted", "granted 1 2", "granted 1 2 x", "granted 1 2 -3"] {
        assert!(remote.receive(line).is_err(), "{line}");
    }
    remote.receive("granted 1 2 300000000000").unwrap();
    for line in ["held", "renewed 1", "lost", "releasing x"] {
        assert!(remote.receive(line).is_err(), "{line}");
    }
    remote.receive("releasing 20").unwrap();
    remote.receive("released").unwrap();
    history.expect_sound();
}

#[test]
fn a_child_whose_parent_is_gone_stops() {
    let mut reporter = Reporter::new(std::io::empty(), std::io::sink());
    assert_eq!(reporter.acquiring("jobs").unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
}
