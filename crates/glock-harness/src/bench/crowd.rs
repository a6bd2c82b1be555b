//! How a lock passes on between many processes: requests a hand-over, how long one takes, and who gets
//! how much.

use std::{
    env,
    fmt::Write,
    io,
    net::{SocketAddr, ToSocketAddrs},
    process::Stdio,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use glock_core::{Lock, LockExt, Retry};
use glock_testing::Proxy;
use tokio::{
    io::AsyncReadExt,
    process::{Child, Command},
    runtime::Builder,
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::bench::{measure::TTL, print};

/// Tells a process that it is one of the crowd: in which namespace, with how many tasks.
const MEMBER: &str = "GLOCK_CROWD_MEMBER";
const HOLD: Duration = Duration::from_millis(5);
const RUN: Duration = Duration::from_secs(10);
/// Long enough for all processes to have begun.
const BEFORE: Duration = Duration::from_secs(1);

/// Processes, and tasks of each: one of all tasks holds the lock, the others wait.
const CROWDS: [(usize, usize); 6] = [(2, 1), (3, 1), (5, 1), (17, 1), (65, 1), (8, 8)];

/// Whether the command line asks for a crowd.
pub fn is_asked_for() -> bool {
    env::args().any(|argument| argument == "--crowd")
}

/// If this process is one of a crowd, does what one of the crowd does, on the lock of a namespace, and returns
/// true.
///
/// # Panics
///
/// If a release fails.
pub fn contended<L: Lock + Clone>(lock: impl FnOnce(&str) -> L) -> bool {
    let Ok(member) = env::var(MEMBER) else { return false };
    let Some((tasks, namespace)) = member.split_once(' ') else { return false };
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    // Within the runtime: what the lock is made of may belong to one.
    runtime.block_on(async { contend(lock(namespace), tasks.parse().unwrap_or(1)).await });
    true
}

/// Takes the lock, holds it for 5 ms and releases it, until the time is up. Then prints when each hold began
/// and ended, a task a line.
async fn contend<L: Lock + Clone>(lock: L, tasks: usize) {
    let until = Instant::now() + BEFORE + RUN;
    let mut working = JoinSet::new();
    for _ in 0..tasks {
        let lock = lock.clone();
        working.spawn(async move {
            let mut holds = String::new();
            while Instant::now() < until {
                let left = until - Instant::now();
                let lease = lock.acquire_with_retry("crowd", TTL, Retry::within(left)).await;
                let Ok(lease) = lease else { break };
                let granted = nanos();
                sleep(HOLD).await;
                // Writing to a string cannot fail.
                let _ = write!(holds, "{granted}-{} ", nanos());
                lock.release(&lease).await.expect("a lease that holds");
            }
            holds
        });
    }
    print(&working.join_all().await.join("\n"));
}

/// Lets crowds of several sizes contend, and prints a table. `requests` reads how many requests the server
/// has received from clients.
///
/// # Errors
///
/// When a process cannot be started, or fails.
pub async fn run(store: &str, requests: impl AsyncFn() -> u64) -> io::Result<()> {
    run_with(store, None, requests).await
}

/// [`run`], for a server that does not count its requests: counts those of all processes at a proxy in front of it.
/// `url` is that of the server, `http://HOST:PORT`; `variable` tells the processes the one that `through` makes of the
/// proxy's address.
///
/// # Errors
///
/// As [`run`].
///
/// # Panics
///
/// If `url` names no server.
pub async fn run_counted(
    store: &str,
    url: &str,
    variable: &str,
    through: impl FnOnce(SocketAddr) -> String,
) -> io::Result<()> {
    let upstream = url.trim_start_matches("http://").to_socket_addrs();
    let upstream = upstream.expect("http://HOST:PORT").next().expect("an address");
    let proxy = Proxy::start(upstream).await?;
    let url = through(proxy.addr());
    run_with(store, Some((variable, &url)), async || proxy.requests()).await
}

/// [`run`], in processes with one more variable in their environment: where they are to find the server.
async fn run_with(
    store: &str,
    variable: Option<(&str, &str)>,
    requests: impl AsyncFn() -> u64,
) -> io::Result<()> {
    let columns = ["processes x tasks", "hand-overs /s", "requests each", "p50", "p99", "grants"];
    let [crowd, rate, each, middle, late, grants] = columns;
    let mut table = format!(
        "{store:<10} {crowd:>18} {rate:>14} {each:>14} {middle:>10} {late:>10} {grants:>12}\n"
    );
    for (processes, tasks) in CROWDS {
        let namespace = glock_testing::fresh_namespace();
        let member = format!("{tasks} {namespace}");
        let crowd: io::Result<Vec<_>> = (0..processes).map(|_| start(&member, variable)).collect();
        sleep(BEFORE).await;
        let before = requests().await;
        sleep(RUN).await;
        let sent = requests().await - before;
        let mut shares = Vec::new();
        for member in crowd? {
            shares.extend(holds_of(member).await?);
        }
        let mut holds: Vec<_> = shares.iter().flatten().copied().collect();
        holds.sort_unstable();
        let mut hand_overs: Vec<_> =
            holds.windows(2).map(|pair| pair[1].0.saturating_sub(pair[0].1)).collect();
        hand_overs.sort_unstable();
        let percentile = |part: usize| {
            let at = hand_overs.get(hand_overs.len() * part / 100).copied().unwrap_or_default();
            format!("{:.0} us", as_f64(at) / 1e3)
        };
        let rate = as_f64(holds.len() as u64) / (BEFORE + RUN).as_secs_f64();
        let each = as_f64(sent) / (rate * RUN.as_secs_f64()).max(1.0);
        let counts = || shares.iter().map(Vec::len);
        let (least, most) = (counts().min().unwrap_or(0), counts().max().unwrap_or(0));
        let (crowd, grants) = (format!("{processes} x {tasks}"), format!("{least}..{most}"));
        let (middle, late) = (percentile(50), percentile(99));
        let _ = writeln!(
            table,
            "{store:<10} {crowd:>18} {rate:>14.0} {each:>14.2} {middle:>10} {late:>10} {grants:>12}"
        );
    }
    print(&table);
    Ok(())
}

fn start(member: &str, variable: Option<(&str, &str)>) -> io::Result<Child> {
    Command::new(env::current_exe()?)
        .env(MEMBER, member)
        .envs(variable)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
}

/// When the holds of each task of a process began and ended.
async fn holds_of(mut member: Child) -> io::Result<Vec<Vec<(u64, u64)>>> {
    let mut text = String::new();
    if let Some(stdout) = &mut member.stdout {
        stdout.read_to_string(&mut text).await?;
    }
    if !member.wait().await?.success() {
        return Err(io::Error::other("one of the crowd has failed"));
    }
    let hold = |hold: &str| {
        let (granted, released) = hold.split_once('-')?;
        Some((granted.parse().ok()?, released.parse().ok()?))
    };
    let lines = text.lines().filter(|line| line.contains('-'));
    Ok(lines.map(|line| line.split(' ').filter_map(hold).collect()).collect())
}

/// The machine's clock, which all processes share.
#[expect(clippy::disallowed_methods, reason = "it compares times of several processes")]
fn nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "counts and times of a bench are far below 2^52")]
fn as_f64(number: u64) -> f64 {
    number as f64
}
