//! Many tasks and many processes at once.

use std::io::{BufReader, stdin};

use glock_sqlite::{Lock, LockError, LockExt, Retry, SqliteLock};
use glock_testing::{
    History,
    history::remote::{Answer, GO, Remote, Reporter},
    process::{Child, ToParent, role},
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::support::{LONG, SHORT, SOON, admin::TestFile, x};

const TASKS: usize = 16;
const PROCESSES: u64 = 16;
const GRANTS: u64 = 6;
const PATH: &str = "GLOCK_SQLITE_TEST_PATH";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_tasks_of_two_clients_hold_one_at_a_time() {
    let file = TestFile::new();
    let (clients, history) = ([file.lock().await, file.lock().await], History::new());
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let (lock, history) = (clients[task % 2].clone(), history.clone());
        tasks.spawn(async move {
            for _ in 0..20 {
                let attempt = history.acquiring(&format!("task {task}"), "x");
                let lease = lock.acquire_with_retry("x", LONG, Retry::within(LONG)).await.unwrap();
                let hold = attempt.granted(lease.fence().get(), lease.deadline());
                tokio::task::yield_now().await;
                let releasing = hold.releasing();
                lock.release(&lease).await.unwrap();
                releasing.released();
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(history.expect_sound().grants, 20 * 16);
}

/// They start at once on a file that is not there yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_processes_hold_one_at_a_time_with_tokens_in_order() {
    let (file, history) = (TestFile::new(), History::new());
    let mut processes = JoinSet::new();
    for process in 0..PROCESSES {
        let child = contender(&file);
        let remote = Remote::new(&history, &format!("process {process}"));
        processes.spawn(follow(child, remote));
    }
    timeout(LONG, processes.join_all()).await.expect("they never end");
    let summary = history.expect_sound();
    assert_eq!(summary.grants, PROCESSES * GRANTS, "{summary}");
}

/// Killed wherever they are: before, within or after a statement. Others go on with the lock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_are_killed_never_let_two_hold() {
    let (file, history) = (TestFile::new(), History::new());
    let mut processes = JoinSet::new();
    for process in 0..12_u32 {
        let (mut child, name) = (contender(&file), format!("process {process}"));
        let mut remote = Remote::new(&history, &name);
        processes.spawn(async move {
            if process % 3 == 0 {
                return follow(child, remote).await;
            }
            let until = SHORT * 2 + SHORT / 7 * process;
            let kill = sleep(until);
            tokio::pin!(kill);
            loop {
                tokio::select! {
                    () = &mut kill => break,
                    line = child.line() => match line.unwrap() {
                        Some(line) => answer(&mut child, &mut remote, &line).await,
                        None => return,
                    },
                }
            }
            remote.killing();
            child.kill_9().await.unwrap();
            while let Some(line) = child.line().await.unwrap() {
                let _ = remote.receive(&line);
            }
        });
    }
    timeout(LONG, processes.join_all()).await.expect("they never end");
    let summary = history.expect_sound();
    assert!(summary.grants >= 4 * GRANTS, "{summary}");
    // Nothing of the killed is in the way.
    let lock = file.lock().await;
    let lease = lock.acquire_with_retry("x", LONG, Retry::within(SOON)).await.unwrap();
    lock.release(&lease).await.unwrap();
}

#[tokio::test]
async fn a_refused_acquire_writes_nothing() {
    let file = TestFile::new();
    let (ours, theirs) = (file.lock().await, file.lock().await);
    let lease = ours.acquire(&x(), LONG).await.unwrap();
    let mut watching = file.connect().await;
    let mut version = async || {
        let version = glock_sqlite::sqlx::query_scalar::<_, i64>("PRAGMA data_version");
        version.fetch_one(&mut watching).await.unwrap()
    };
    let before = version().await;
    for _ in 0..20 {
        let refused = theirs.acquire(&x(), LONG).await;
        assert!(matches!(refused, Err(LockError::Held { holder: Some(_), .. })), "{refused:?}");
    }
    assert_eq!(version().await, before);
    ours.release(&lease).await.unwrap();
    assert_ne!(version().await, before);
}

fn contender(file: &TestFile) -> Child {
    let variables = [(PATH, file.path.to_str().unwrap())];
    Child::start("contention::contend", "contender", &variables).unwrap()
}

async fn follow(mut child: Child, mut remote: Remote) {
    while let Some(line) = child.line().await.unwrap() {
        answer(&mut child, &mut remote, &line).await;
    }
    assert!(child.wait().await.unwrap().success());
}

async fn answer(child: &mut Child, remote: &mut Remote, line: &str) {
    if remote.receive(line).unwrap() == Answer::Go {
        child.say(GO).await.unwrap();
    }
}

/// Not a test: what each of the processes does.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "run by a test in a process of its own"]
async fn contend() {
    if role().as_deref() != Some("contender") {
        return;
    }
    let lock = SqliteLock::open(std::env::var(PATH).unwrap()).await.unwrap();
    let mut parent = Reporter::new(BufReader::new(stdin()), ToParent::new());
    for _ in 0..GRANTS {
        parent.acquiring("x").unwrap();
        let lease = lock.acquire_with_retry("x", SHORT * 2, Retry::within(LONG)).await.unwrap();
        parent.granted(lease.fence().get(), lease.deadline()).unwrap();
        sleep(SHORT / 100).await;
        parent.releasing().unwrap();
        // On a busy machine it may have run out.
        match lock.release(&lease).await {
            Ok(()) => parent.released().unwrap(),
            Err(err) => assert!(matches!(err, LockError::NotHeld { .. }), "{err:?}"),
        }
    }
}
