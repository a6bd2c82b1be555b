//! What the recorder writes down, and what the checker makes of it.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

mod checks;
mod remote;
mod search;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use glock_testing::history::{Grant, History, Outcome, Record, Violation};
use tokio::sync::Mutex;
use tokio::time::{Instant, advance, sleep};

const MS: Duration = Duration::from_millis(1);

fn grant(history: &History, index: usize) -> Grant {
    match history.records().swap_remove(index).outcome {
        Outcome::Granted(grant) => grant,
        other => panic!("not granted but {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_hold_is_recorded_with_all_its_moments() {
    let history = History::new();
    advance(MS).await;
    let attempt = history.acquiring("a", "jobs");
    advance(MS).await;
    let mut hold = attempt.granted(7, Instant::now() + 10 * MS);
    advance(MS).await;
    let renewing = hold.renewing();
    advance(MS).await;
    renewing.renewed(Instant::now() + 20 * MS);
    let release = hold.releasing();
    advance(MS).await;
    release.released();

    let record = history.records().swap_remove(0);
    assert_eq!((&*record.who, &*record.id, record.invoke), ("a", "jobs", MS));
    let grant = grant(&history, 0);
    assert_eq!((grant.token, grant.ok, grant.until), (7, 2 * MS, 12 * MS));
    let renewal = grant.renewals[0];
    assert_eq!((renewal.invoke, renewal.ok, renewal.until), (3 * MS, 4 * MS, 24 * MS));
    assert_eq!((grant.lost, grant.release, grant.released), (None, Some(4 * MS), Some(5 * MS)));
    assert_eq!((grant.end(), grant.overdue), (4 * MS, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_hold_ends_at_its_release_its_loss_or_its_deadline_whichever_is_first() {
    let history = History::new();
    let until = Instant::now() + 10 * MS;
    let expired = history.acquiring("a", "1").granted(1, until);
    let released = history.acquiring("a", "2").granted(1, until);
    let mut lost = history.acquiring("a", "3").granted(1, until);
    let dropped = history.acquiring("a", "4").granted(1, until);
    advance(5 * MS).await;
    drop(released.releasing());
    lost.lost();
    drop(dropped);
    advance(15 * MS).await;
    drop(lost.releasing());
    drop(expired);
    let ends: Vec<_> = (0..4).map(|index| grant(&history, index).end()).collect();
    assert_eq!(ends, [10 * MS, 5 * MS, 5 * MS, 5 * MS]);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_moves_the_deadline_and_a_failed_one_does_not() {
    let history = History::new();
    let mut hold = history.acquiring("a", "1").granted(1, Instant::now() + 10 * MS);
    advance(5 * MS).await;
    let _failed = hold.renewing();
    assert_eq!(grant(&history, 0).end(), 10 * MS);
    hold.renewing().renewed(Instant::now() + 10 * MS);
    assert_eq!(grant(&history, 0).end(), 15 * MS);
    drop(hold);
}

#[tokio::test]
async fn tries_that_took_nothing_are_counted_by_their_outcome() {
    let history = History::new();
    history.acquiring("a", "1").held();
    history.acquiring("a", "1").timed_out();
    history.acquiring("a", "1").unknown();
    drop(history.acquiring("b", "1"));
    let summary = history.expect_sound();
    assert_eq!((summary.grants, summary.held, summary.timed_out, summary.unknown), (0, 1, 1, 2));
    assert_eq!(summary.shares.len(), 2, "who got nothing has a share of nothing");
    assert_eq!((summary.share_min(), summary.hand_over_median()), (0, None));
}

/// Sixteen tasks take a lock; `exclusive` says whether it is one.
async fn contend(exclusive: Option<Arc<Mutex<()>>>) -> History {
    let (history, tokens) = (History::new(), Arc::new(AtomicU64::new(0)));
    let tasks = (0..16).map(|task| {
        let (history, tokens, lock) = (history.clone(), Arc::clone(&tokens), exclusive.clone());
        tokio::spawn(async move {
            for _ in 0..10 {
                let attempt = history.acquiring(&format!("task {task}"), "jobs");
                let guard = match &lock {
                    Some(lock) => Some(lock.lock().await),
                    None => None,
                };
                let token = tokens.fetch_add(1, Ordering::Relaxed);
                let hold = attempt.granted(token, Instant::now() + Duration::from_mins(1));
                sleep(MS / 2).await;
                let release = hold.releasing();
                drop(guard);
                release.released();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    history
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mutex_under_contention_has_a_sound_history() {
    let summary = contend(Some(Arc::default())).await.expect_sound();
    assert_eq!((summary.grants, summary.share_min(), summary.share_max()), (160, 10, 10));
    assert!(summary.hand_overs.len() > 100, "{summary}");
    assert!(summary.longest_wait >= 15 * MS / 2, "{summary}");
    assert!(summary.hand_over_median() <= summary.hand_over_max());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_excludes_nobody_is_found_out() {
    let violations = contend(None).await.check().unwrap_err();
    assert!(violations.iter().any(|violation| matches!(violation, Violation::Overlap { .. })));
}

#[test]
#[should_panic(expected = "two held lock \"jobs\" at once")]
fn an_unsound_history_fails_the_test_and_says_why() {
    let history = History::new();
    let until = Instant::now() + Duration::from_mins(1);
    let first = history.acquiring("a", "jobs").granted(1, until);
    let second = history.acquiring("b", "jobs").granted(2, until);
    std::thread::sleep(MS);
    drop((first, second));
    history.expect_sound();
}

#[test]
fn a_dump_has_one_object_a_line() {
    let history = History::new();
    history.acquiring("a", "1").held();
    history.acquiring("a", "1").timed_out();
    history.acquiring("a", "1").unknown();
    let mut hold = history.acquiring("a", "1").granted(u64::MAX, Instant::now() + MS);
    hold.renewing().renewed(Instant::now() + MS);
    hold.renewing().renewed(Instant::now() + MS);
    hold.releasing().released();
    let text = dump(&history);
    let digits = text
        .replace(|char: char| char.is_ascii_digit(), "")
        .replace("\"who\":\"a\",\"id\":\"\",", "");
    let expected = r#"{"invoke":,"outcome":"held","at":}
{"invoke":,"outcome":"timed out","at":}
{"invoke":,"outcome":"unknown"}
{"invoke":,"outcome":"granted","token":,"ok":,"until":,"overdue":,"renewals":[{"invoke":,"ok":,"until":},{"invoke":,"ok":,"until":}],"lost":null,"release":,"released":}
"#;
    assert_eq!(digits, expected);
    assert!(text.contains("\"token\":18446744073709551615,"));
}

#[test]
fn hostile_ids_stay_inside_their_quotes() {
    let hostile = [
        ("\"}\n{\"x\":\"", r#"\"}\u000a{\"x\":\""#),
        ("back\\slash\\\"", r#"back\\slash\\\""#),
        ("\0\u{1f}\u{7f}\u{85}", r"\u0000\u001f\u007f\u0085"),
        ("line\u{2028}paragraph\u{2029}", r"line\u2028paragraph\u2029"),
        ("💥 é ../{}%", "💥 é ../{}%"),
        ("", ""),
    ];
    for (id, escaped) in hostile {
        let history = History::new();
        history.acquiring(id, id).unknown();
        let text = dump(&history);
        let start = format!(r#"{{"who":"{escaped}","id":"{escaped}","invoke":"#);
        assert!(text.starts_with(&start), "{text}");
        assert_eq!(text.lines().count(), 1);
    }
}

#[test]
fn a_dump_tells_when_it_cannot_be_written() {
    let history = History::new();
    history.acquiring("a", "1").unknown();
    assert!(history.write_jsonl(&mut [0; 3].as_mut_slice()).is_err());
}

fn dump(history: &History) -> String {
    let mut out = Vec::new();
    history.write_jsonl(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// A granted try, to be built by hand.
fn granted(who: &str, id: &str, invoke: u64, grant: Grant) -> Record {
    Record { who: who.into(), id: id.into(), invoke: at(invoke), outcome: Outcome::Granted(grant) }
}

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
