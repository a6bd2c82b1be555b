//! The locks beside the official Java client's own calls, in turns, on the member that `GLOCK_HAZELCAST_URL`
//! names. `GLOCK_HAZELCAST_JAR` names the file that has the client; a JDK must be there.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio},
    time::Duration,
};

use glock_hazelcast::{
    HazelcastClient, HazelcastFencedLock, HazelcastLock, Lock, LockConfig, LockExt, LockId, Retry,
};
use glock_testing::{fresh_namespace, url_from_env};
use tokio::{
    sync::oneshot,
    task::JoinSet,
    time::{Instant, sleep},
};

const TTL: Duration = Duration::from_mins(1);
const HOLD: Duration = Duration::from_millis(8);
const TASKS: usize = 64;
const WARM_UP: u32 = 4_000;
const PAIRS: u32 = 400;
const ROUNDS: usize = 15;
const HAND_OVERS: usize = 200;
const LONG_ROUND: Duration = Duration::from_secs(2);

/// The Java program, which does what a line says and replies with a number.
struct Java {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Java {
    fn start(jar: &str, member: &str) -> Self {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/JavaClient.java");
        let mut java = Command::new("java");
        java.args(["-cp", jar, source, member, &fresh_namespace()]);
        let started = java.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut process = started.expect("java, of a JDK");
        let input = process.stdin.take().expect("a pipe");
        let output = BufReader::new(process.stdout.take().expect("a pipe"));
        Self { process, input, output }
    }

    fn does(&mut self, what: &str, count: u128) -> f64 {
        writeln!(self.input, "{what} {count}").expect("a Java program that runs");
        let mut reply = String::new();
        self.output.read_line(&mut reply).expect("a reply");
        reply.trim().parse().expect("a number")
    }
}

impl Drop for Java {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn id(name: &str) -> LockId {
    LockId::new(name).expect("a name")
}

async fn pair(lock: &impl Lock, id: &LockId) {
    let lease = lock.acquire(id, TTL).await.expect("a lock that is free");
    lock.release(&lease).await.expect("a lock that is held");
}

/// Nanoseconds for that many pairs.
async fn timed(lock: &impl Lock, pairs: u32) -> f64 {
    let (id, since) = (id("x"), Instant::now());
    for _ in 0..pairs {
        pair(lock, &id).await;
    }
    since.elapsed().as_secs_f64() * 1e9
}

/// Nanoseconds from a release to the grant of the waiter.
async fn hand_over<L: Lock + Clone>(lock: &L, second: &L) -> f64 {
    let lease = lock.acquire(&id("hand"), TTL).await.expect("a lock that is free");
    let (ready, waiting) = oneshot::channel();
    let waiter = tokio::spawn({
        let second = second.clone();
        async move {
            let _ = ready.send(());
            let lease = second.acquire_with_retry("hand", TTL, Retry::within(TTL)).await;
            let (granted_at, lease) = (Instant::now(), lease.expect("a grant"));
            second.release(&lease).await.expect("a lock that is held");
            granted_at
        }
    });
    let _ = waiting.await;
    sleep(HOLD).await;
    let released_at = Instant::now();
    lock.release(&lease).await.expect("a lock that is held");
    (waiter.await.expect("a waiter") - released_at).as_secs_f64() * 1e9
}

/// Pairs of many tasks in that time.
async fn throughput<L: Lock + Clone>(lock: &L, time: Duration) -> f64 {
    let (until, mut tasks) = (Instant::now() + time, JoinSet::new());
    for n in 0..TASKS {
        let lock = lock.clone();
        tasks.spawn(async move {
            let (id, mut pairs) = (id(&format!("many{n}")), 0_u32);
            while Instant::now() < until {
                pair(&lock, &id).await;
                pairs += 1;
            }
            pairs
        });
    }
    tasks.join_all().await.into_iter().map(f64::from).sum()
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

#[expect(clippy::print_stdout, reason = "a bench prints its result")]
fn row(
    what: &str,
    java: Vec<f64>,
    glock: Vec<f64>,
    unit: &str,
    holds: impl Fn(f64) -> bool,
) -> bool {
    let (java, glock) = (median(java), median(glock));
    let (ratio, holds) = (glock / java, holds(glock / java));
    let verdict = if holds { "holds" } else { "FAILS" };
    println!("hazelcast  {what:<44} {java:>9.1} {unit} {glock:>9.1} {unit} {ratio:>7.3} {verdict}");
    holds
}

async fn pairs(java: &mut Java, what: &str, lock: &impl Lock) -> (Vec<f64>, Vec<f64>) {
    java.does(what, WARM_UP.into());
    timed(lock, WARM_UP).await;
    let (mut theirs, mut ours, each) = (Vec::new(), Vec::new(), f64::from(PAIRS) * 1e3);
    for _ in 0..ROUNDS {
        theirs.push(java.does(what, PAIRS.into()) / each);
        ours.push(timed(lock, PAIRS).await / each);
    }
    (theirs, ours)
}

async fn run(url: &str, jar: &str) -> bool {
    let member = url.split(',').next().unwrap_or_default();
    let mut java = Java::start(jar, member);
    let config = LockConfig::default().with_namespace(fresh_namespace());
    let client = || HazelcastClient::new(url.split(',')).expect("addresses");
    let lock = || HazelcastLock::new(client()).with_config(config.clone()).expect("settings");
    let fenced = HazelcastFencedLock::new(client()).with_config(config.clone());
    let fenced = fenced.and_then(HazelcastFencedLock::with_unsafe_mode).expect("settings");
    let (lock, second) = (lock(), lock());

    let (theirs, ours) = pairs(&mut java, "map", &lock).await;
    let mut holds = row("map: pair with a fence", theirs, ours, "us", |ratio| ratio <= 1.05);
    let (theirs, ours) = pairs(&mut java, "bare", &lock).await;
    // For the record: without a fence, the Java client has half of the requests.
    row("map: pair, the Java client's without a fence", theirs, ours, "us", |_| true);
    let (theirs, ours) = pairs(&mut java, "cp", &fenced).await;
    holds &= row("fenced lock: pair", theirs, ours, "us", |ratio| ratio <= 1.05);

    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..HAND_OVERS {
        theirs.push(java.does("hand-over", 1) / 1e3);
        ours.push(hand_over(&lock, &second).await / 1e3);
    }
    holds &= row("map: hand-over, median", theirs, ours, "us", |ratio| ratio <= 1.3);

    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let each = LONG_ROUND.as_secs_f64();
        theirs.push(java.does("throughput", LONG_ROUND.as_millis()) / each);
        ours.push(throughput(&lock, LONG_ROUND).await / each);
    }
    holds & row("map: pairs a second, 64 at once", theirs, ours, "/s", |ratio| ratio >= 1.0)
}

#[expect(clippy::print_stdout, reason = "a bench says why it measures nothing")]
fn main() -> ExitCode {
    let Ok(jar) = env::var("GLOCK_HAZELCAST_JAR") else {
        println!(
            "hazelcast  beside the Java client: set GLOCK_HAZELCAST_JAR to the file of Hazelcast"
        );
        return ExitCode::SUCCESS;
    };
    let url = url_from_env("GLOCK_HAZELCAST_URL", "hazelcast");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    if runtime.block_on(run(&url, &jar)) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
