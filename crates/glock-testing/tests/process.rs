//! Counts of this process, waiting with a limit, and children that are killed, paused and listened to.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read, Seek, Write, stdin, stdout};
use std::path::PathBuf;
use std::time::Duration;

use glock_testing::history::History;
use glock_testing::history::remote::{Answer, GO, Remote, Reporter};
use glock_testing::process::{
    Child, ToParent, alive_tasks, eventually, open_descriptors, resident_bytes, rests, role,
    settles, tell,
};
use tokio::time::{Instant, sleep, timeout};

const LIMIT: Duration = Duration::from_secs(20);
const TRIES: u64 = 20;

#[test]
#[ignore = "a part of other tests, in a process of its own"]
fn part() {
    let Some(role) = role() else { return };
    match role.as_str() {
        "greeter" => greet(),
        "counter" => count_descriptors_and_memory(),
        "ticker" => tick(),
        "contender" => contend(Some(&lock_file())),
        "careless contender" => contend(None),
        "failure" => panic!("this failure is wanted"),
        other => panic!("no such role: {other}"),
    }
}

fn greet() {
    stdout().write_all(b"chatter\n").unwrap();
    tell(&format!("hello {}", std::env::var("NAME").unwrap())).unwrap();
    let mut name = String::new();
    stdin().read_line(&mut name).unwrap();
    // In pieces.
    write!(ToParent::new(), "goodbye {name}").unwrap();
}

/// Until the parent reads no more.
fn tick() {
    while tell("tick").is_ok() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[tokio::test]
async fn a_child_runs_a_part_and_both_can_talk() {
    let mut child = Child::start("part", "greeter", &[("NAME", "parent")]).unwrap();
    assert_eq!(child.line().await.unwrap().unwrap(), "hello parent");
    child.say("child").await.unwrap();
    assert_eq!(child.line().await.unwrap().unwrap(), "goodbye child");
    assert_eq!(child.line().await.unwrap(), None);
    assert!(child.wait().await.unwrap().success());
    assert_eq!(child.id(), None);
    child.kill_9().await.unwrap();
    assert!(child.pause().await.is_err() && child.resume().await.is_err());
}

#[tokio::test]
async fn a_part_that_fails_is_told_by_its_status() {
    let mut child = Child::start("part", "failure", &[]).unwrap();
    assert!(!child.wait().await.unwrap().success());
}

#[tokio::test]
async fn a_killed_child_says_no_more() {
    let mut child = Child::start("part", "ticker", &[]).unwrap();
    child.line().await.unwrap().unwrap();
    let id = child.id().unwrap();
    child.kill_9().await.unwrap();
    assert!(!exists(id));
    let rest = async { while child.line().await.unwrap().is_some() {} };
    timeout(LIMIT, rest).await.expect("a dead child talks");
}

#[tokio::test]
async fn a_paused_child_stands_still_until_it_may_go_on() {
    let mut child = Child::start("part", "ticker", &[]).unwrap();
    child.line().await.unwrap().unwrap();
    child.pause().await.unwrap();
    while timeout(Duration::from_millis(100), child.line()).await.is_ok() {}
    child.resume().await.unwrap();
    assert!(timeout(LIMIT, child.line()).await.unwrap().unwrap().is_some());
}

#[tokio::test]
async fn a_dropped_child_is_dead_and_reaped_even_when_paused() {
    let mut child = Child::start("part", "ticker", &[]).unwrap();
    child.line().await.unwrap().unwrap();
    child.pause().await.unwrap();
    let id = child.id().unwrap();
    drop(child);
    assert!(!exists(id), "a zombie would still have an entry");
}

fn exists(id: u32) -> bool {
    PathBuf::from(format!("/proc/{id}")).exists()
}

#[tokio::test]
async fn descriptors_and_memory_are_counted() {
    let mut child = Child::start("part", "counter", &[]).unwrap();
    assert!(child.wait().await.unwrap().success());
}

fn count_descriptors_and_memory() {
    let before = open_descriptors();
    let files: Vec<_> = (0..5).map(|_| File::open("/dev/null").unwrap()).collect();
    assert_eq!(open_descriptors(), before + 5);
    drop(files);
    assert_eq!(open_descriptors(), before);

    let (before, size) = (resident_bytes(), 32 << 20);
    let memory = vec![1_u8; size];
    let grown = resident_bytes() - before;
    assert!(grown.abs_diff(memory.len() as u64) < 2 << 20, "{grown} for {size}");
}

#[tokio::test]
async fn tasks_are_counted_until_they_end() {
    let before = alive_tasks();
    let tasks: Vec<_> = (0..3).map(|_| tokio::spawn(sleep(LIMIT))).collect();
    assert_eq!(alive_tasks(), before + 3);
    for task in &tasks {
        task.abort();
    }
    settles("tasks", LIMIT, before, async || alive_tasks()).await;
}

#[tokio::test]
async fn what_becomes_true_in_time_is_waited_for() {
    let start = Instant::now();
    eventually("30 ms have passed", LIMIT, async || start.elapsed().as_millis() >= 30).await;
    eventually("now", Duration::ZERO, async || true).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "not within 3s: the lock is free (asked ")]
async fn what_never_becomes_true_is_named() {
    eventually("the lock is free", Duration::from_secs(3), async || false).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "(no answer to question 1, crates/glock-testing/tests/process.rs:")]
async fn a_condition_that_hangs_is_given_up() {
    eventually("the server answers", Duration::from_secs(3), std::future::pending::<bool>).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(
    expected = "sessions: not back to 2 within 3s, but at 5 (crates/glock-testing/tests/"
)]
async fn what_does_not_settle_is_told_with_its_last_measure() {
    settles("sessions", Duration::from_secs(3), 2, async || 5).await;
}

/// A lock that several processes can take: the kernel's lock on a file, with the latest token in it.
fn lock_file() -> File {
    let path = std::env::var("LOCK_FILE").unwrap();
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

fn contend(file: Option<&File>) {
    let mut reporter = Reporter::new(BufReader::new(stdin()), ToParent::new());
    for number in 1..=TRIES {
        reporter.acquiring("jobs").unwrap();
        let until = Instant::now() + LIMIT;
        let token = file.map_or(number, |file| {
            file.lock().unwrap();
            next_token(file)
        });
        reporter.granted(token, until).unwrap();
        std::thread::sleep(Duration::from_millis(2));
        reporter.releasing().unwrap();
        if let Some(file) = file {
            file.unlock().unwrap();
        }
        reporter.released().unwrap();
    }
}

fn next_token(mut file: &File) -> u64 {
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    let token = text.parse::<u64>().unwrap() + 1;
    file.rewind().unwrap();
    write!(file, "{token}").unwrap();
    token
}

/// Starts contenders and reads all that they send. The first is killed amid its fifth hold, if any is to be.
async fn contest(name: &str, role: &str, killed: Option<usize>) -> History {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, "0").unwrap();
    let history = History::new();
    let parents = (0..3).map(|number| {
        let mut child =
            Child::start("part", role, &[("LOCK_FILE", path.to_str().unwrap())]).unwrap();
        let mut remote = Remote::new(&history, &format!("child {number}"));
        let mut grants = 0;
        tokio::spawn(async move {
            while let Some(line) = child.line().await.unwrap() {
                if remote.receive(&line).unwrap() == Answer::Go {
                    child.say(GO).await.unwrap();
                }
                grants += usize::from(line.starts_with("granted"));
                if killed == Some(number) && grants == 5 {
                    remote.killing();
                    child.kill_9().await.unwrap();
                    return;
                }
            }
        })
    });
    for parent in parents.collect::<Vec<_>>() {
        timeout(LIMIT, parent).await.expect("the contest does not end").unwrap();
    }
    history
}

#[tokio::test]
async fn processes_that_share_a_lock_have_a_sound_history() {
    let summary = contest("contenders", "contender", None).await.expect_sound();
    assert_eq!((summary.grants, summary.share_min(), summary.share_max()), (60, 20, 20));
}

#[tokio::test]
async fn a_killed_process_passes_its_lock_on_and_the_history_stays_sound() {
    let summary = contest("killed", "contender", Some(0)).await.expect_sound();
    assert_eq!((summary.shares["child 0"], summary.grants), (5, 45));
}

#[tokio::test]
async fn processes_that_do_not_lock_are_found_out() {
    let violations = contest("careless", "careless contender", None).await.check().unwrap_err();
    assert!(violations.iter().any(|one| one.to_string().starts_with("two held lock \"jobs\"")));
}

#[tokio::test(start_paused = true)]
async fn a_baseline_is_taken_after_the_last_change() {
    let start = Instant::now();
    // Nine connections of a burst, two seconds later all but one are closed.
    let open = || if start.elapsed() < Duration::from_secs(3) { 9 } else { 1 };
    let (still, limit) = (Duration::from_secs(4), Duration::from_secs(20));
    assert_eq!(rests("connections", still, limit, open).await, 1);
    assert!(start.elapsed() >= Duration::from_secs(7), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "tasks: not the same for 4s within 20s, but at ")]
async fn a_baseline_that_never_rests_is_told() {
    let mut count = 0;
    let (still, limit) = (Duration::from_secs(4), Duration::from_secs(20));
    rests("tasks", still, limit, || {
        count += 1;
        count
    })
    .await;
}
