//! The locks beside the official Java client's own calls, in turns, on the member that `GLOCK_HAZELCAST_URL`
//! names. `GLOCK_HAZELCAST_JAR` names the file that has the client; a JDK must be there.

use std::{
    env,
    fmt::Debug,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio},
    str::FromStr,
    thread,
    time::Duration,
};

use glock_harness::bench::{
    Budget, Measure, glock_hand_over, glock_pairs_a_second, median, micros, middle, report,
};
use glock_hazelcast::{
    HazelcastClient, HazelcastFencedLock, HazelcastLock, Lock, LockConfig, LockId,
};
use glock_testing::{fresh_namespace, url_from_env};
use tokio::time::Instant;

const TTL: Duration = Duration::from_mins(1);
const WARM_UP: u32 = 4_000;
const PAIRS: u32 = 400;
const ROUNDS: usize = 15;
const HAND_OVERS: usize = 200;
/// As long as a round of glock's.
const THROUGHPUT_ROUND: Duration = Duration::from_secs(1);

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

    fn does<N>(&mut self, what: &str, count: u128) -> N
    where
        N: FromStr<Err: Debug>,
    {
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

/// Keeps all cores awake, by loops that run only while no other program does. A core that sleeps takes as long to
/// wake as a member to reply, and a client with more threads lets it sleep less.
struct AwakeCores(Vec<Child>);

impl AwakeCores {
    fn keep() -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let start = |_| {
            let mut looping = Command::new("chrt");
            looping.args(["--idle", "0", "sh", "-c", "while :; do :; done"]);
            looping.spawn().expect("chrt, of util-linux")
        };
        Self((0..cores).map(start).collect())
    }
}

impl Drop for AwakeCores {
    fn drop(&mut self) {
        for looping in &mut self.0 {
            let _ = looping.kill();
            let _ = looping.wait();
        }
    }
}

/// How long a pair takes: the mean of a round.
async fn pair(lock: impl Lock, pairs: u32) -> Duration {
    let (id, since) = (LockId::new("x").expect("a name"), Instant::now());
    for _ in 0..pairs {
        let lease = lock.acquire(&id, TTL).await.expect("a lock that is free");
        lock.release(&lease).await.expect("a lock that is held");
    }
    since.elapsed() / pairs
}

/// Times of the Java client and of glock, which take turns.
fn times(what: &'static str, (java, glock): (Vec<Duration>, Vec<Duration>), max: f64) -> Measure {
    let (java, glock) = (median(java), median(glock));
    let ratio = glock.as_secs_f64() / java.as_secs_f64();
    let (raw, glock, budget) = (micros(java), micros(glock), Budget::AtMost(max));
    Measure { what, raw, glock, ratio, budget }
}

/// glock's run in a task, as an application's do. The thread that waits for the runtime is another one than
/// those that receive, so that each reply to it would cost the start of a thread.
async fn pairs<L: Lock + Clone + 'static>(
    java: &mut Java,
    what: &str,
    lock: &L,
) -> (Vec<Duration>, Vec<Duration>) {
    let glock = |pairs| {
        let lock = lock.clone();
        async move { tokio::spawn(pair(lock, pairs)).await.expect("a task") }
    };
    let _: u64 = java.does(what, WARM_UP.into());
    glock(WARM_UP).await;
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        theirs.push(Duration::from_nanos(java.does(what, PAIRS.into())) / PAIRS);
        ours.push(glock(PAIRS).await);
    }
    (theirs, ours)
}

async fn hand_overs(
    java: &mut Java,
    lock: &HazelcastLock,
    second: &HazelcastLock,
) -> (Vec<Duration>, Vec<Duration>) {
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..HAND_OVERS {
        theirs.push(Duration::from_nanos(java.does("hand-over", 1)));
        ours.push(glock_hand_over(lock, second).await);
    }
    (theirs, ours)
}

async fn throughput(java: &mut Java, lock: &HazelcastLock) -> Measure {
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let pairs: f64 = java.does("throughput", THROUGHPUT_ROUND.as_millis());
        theirs.push(pairs / THROUGHPUT_ROUND.as_secs_f64());
        ours.push(glock_pairs_a_second(lock).await);
    }
    let (java, glock) = (middle(theirs), middle(ours));
    Measure {
        what: "map: pairs a second, 64 at once",
        raw: format!("{java:.0} /s"),
        glock: format!("{glock:.0} /s"),
        ratio: glock / java,
        budget: Budget::AtLeast(1.0),
    }
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

    let awake = AwakeCores::keep();
    let with_fence = pairs(&mut java, "map", &lock).await;
    // For the record: without a fence, the Java client has half of the requests.
    let bare = pairs(&mut java, "bare", &lock).await;
    let cp = pairs(&mut java, "cp", &fenced).await;
    drop(awake);
    // For the record as well: this also measures who lets the cores sleep.
    let with_fence_idle = pairs(&mut java, "map", &lock).await;
    let cp_idle = pairs(&mut java, "cp", &fenced).await;
    let handed_over = hand_overs(&mut java, &lock, &second).await;
    let measures = [
        times("map: pair with a fence", with_fence, 1.05),
        times("map: pair, the Java client's without a fence", bare, f64::INFINITY),
        times("fenced lock: pair", cp, 1.05),
        times("map: pair with a fence, idle cores", with_fence_idle, f64::INFINITY),
        times("fenced lock: pair, idle cores", cp_idle, f64::INFINITY),
        times("map: hand-over, median", handed_over, 1.3),
        throughput(&mut java, &lock).await,
    ];
    report("hazelcast", "Java client", &measures)
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
