//! What `glock run` adds to a command, beside `flock`, `etcdctl lock` and `consul lock`, in one run.
//!
//! `cargo xtask bench cli` starts the servers. A store whose `GLOCK_<STORE>_URL` is not set is left out, and so is
//! a program that this machine does not have.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use glock_testing::fresh_namespace;

/// How often each program runs, by turns with the others, after one run that is not counted.
const ROUNDS: usize = 60;
/// On SQLite, the command starts so soon, and ends no more than that later than without a lock.
const START_MAX: Duration = Duration::from_millis(10);
const ADDED_MAX: Duration = Duration::from_millis(20);
/// The command prints when it runs, in nanoseconds.
const COMMAND: [&str; 2] = ["date", "+%s%N"];

/// A program that runs the command, under a lock or not.
struct Contender {
    name: &'static str,
    start: Command,
    times: Vec<Times>,
}

#[derive(Debug, Clone, Copy)]
struct Times {
    /// Until the command ran.
    start: Duration,
    /// Until all had ended.
    end: Duration,
}

/// The programs on one store, the one that is held against the budget last.
struct Race {
    store: &'static str,
    contenders: Vec<Contender>,
}

impl Contender {
    fn new(name: &'static str, program: impl AsRef<Path>, arguments: &[&str]) -> Self {
        let mut start = Command::new(program.as_ref());
        start.args(arguments).args(COMMAND);
        start.stdin(Stdio::null()).stderr(Stdio::inherit()).stdout(Stdio::piped());
        Self { name, start, times: Vec::new() }
    }

    fn glock(url: &str) -> Self {
        let program = env!("CARGO_BIN_EXE_glock");
        Self::new("glock run", program, &["run", "bench", "--"]).with("GLOCK_URL", url)
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.start.env(name, value);
        self
    }

    fn run(&mut self) -> Times {
        let since = now();
        let output = self.start.output();
        let end = now().saturating_sub(since);
        let output = output.unwrap_or_else(|err| panic!("cannot start {}: {err}", self.name));
        assert!(output.status.success(), "{}: {output:?}", self.name);
        let printed = String::from_utf8_lossy(&output.stdout);
        let ran = printed.trim().parse().unwrap_or_else(|_| panic!("{}: {printed}", self.name));
        Times { start: Duration::from_nanos(ran).saturating_sub(since), end }
    }

    fn median(&self, of: fn(&Times) -> Duration) -> Duration {
        let mut times: Vec<_> = self.times.iter().map(of).collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or_default()
    }
}

/// The clock that the command prints, too.
#[expect(
    clippy::disallowed_methods,
    reason = "two programs compare their times, and one is not ours"
)]
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970")
}

impl Race {
    /// Beside the command alone.
    fn new(store: &'static str, others: Option<Contender>, glock: Contender) -> Self {
        let alone = Contender::new("no lock", "/usr/bin/env", &[]);
        let contenders = [Some(alone), others, Some(glock)].into_iter().flatten().collect();
        Self { store, contenders }
    }

    /// Runs all by turns. Each round begins with another one.
    fn run(&mut self) {
        for contender in &mut self.contenders {
            contender.run();
        }
        for round in 0..ROUNDS {
            let count = self.contenders.len();
            for turn in 0..count {
                let contender = &mut self.contenders[(round + turn) % count];
                let times = contender.run();
                contender.times.push(times);
            }
        }
    }

    /// Adds its lines to the table. Returns whether the budgets hold.
    fn report(&self, table: &mut String) -> bool {
        let Some((alone, others)) = self.contenders.split_first() else { return true };
        let (mut holds, mut rival) = (true, None);
        for other in others {
            let added = |of| other.median(of).saturating_sub(alone.median(of));
            let (start, end) = (added(|times| times.start), added(|times| times.end));
            let mut verdict = String::new();
            if other.name == "glock run" {
                let most =
                    if self.store == "sqlite" { Some((START_MAX, ADDED_MAX)) } else { rival };
                let within =
                    most.is_none_or(|(start_max, end_max)| start <= start_max && end <= end_max);
                let said = if within { "holds" } else { "FAILS" };
                verdict = most.map_or_else(String::new, |(start_max, end_max)| {
                    format!("<= {} and {} {said}", millis(start_max), millis(end_max))
                });
                holds &= within;
            }
            rival = Some((start, end));
            let (start, end) = (millis(start), millis(end));
            // Writing to a string cannot fail.
            let _ = writeln!(
                table,
                "{:<10} {:<14} {start:>12} {end:>12}  {verdict}",
                self.store, other.name
            );
        }
        holds
    }
}

/// What else the machine does changes the times.
fn busyness() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!("{cores} cores, load {}", load.split(' ').next().unwrap_or_default())
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The program `name`, in the directory of a server's own program or on the path.
fn program(name: &str, server: &str) -> Option<PathBuf> {
    let beside = variable(server).map(|path| Path::new(&path).with_file_name(name));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = beside.into_iter().chain(std::env::split_paths(&path).map(|dir| dir.join(name)));
    let found = found.into_iter().find(|path| path.is_file());
    if found.is_none() {
        say(&format!("{name} is missing: nothing stands beside glock there"));
    }
    found
}

/// On a file of its own, beside `flock`.
fn sqlite(directory: &Path) -> Race {
    let file = directory.join("flock").display().to_string();
    let url = format!("sqlite:{}", directory.join("locks.db").display());
    let flock = program("flock", "").map(|path| Contender::new("flock", path, &[&file]));
    Race::new("sqlite", flock, Contender::glock(&url))
}

fn etcd(url: &str) -> Race {
    let rival = program("etcdctl", "GLOCK_ETCD_SERVER").map(|path| {
        Contender::new("etcdctl lock", path, &["lock", "bench"])
            .with("ETCDCTL_API", "3")
            .with("ETCDCTL_ENDPOINTS", url)
    });
    let url = url.replacen("http://", "etcd://", 1);
    Race::new("etcd", rival, Contender::glock(&url))
}

/// Its URL is `http://host:port/?token=..`.
fn consul(url: &str) -> Race {
    let (host, token) = url.trim_start_matches("http://").split_once("/?token=").expect("a token");
    let rival = program("consul", "GLOCK_CONSUL_SERVER").map(|path| {
        Contender::new("consul lock", path, &["lock", "-shell=false", "bench"])
            .with("CONSUL_HTTP_ADDR", host)
            .with("CONSUL_HTTP_TOKEN", token)
    });
    Race::new("consul", rival, Contender::glock(&format!("consul://:{token}@{host}")))
}

fn postgres(url: &str) -> Race {
    // An operator who sets up the database makes the table once.
    Contender::glock(&format!("{url}?create=true")).run();
    Race::new("postgres", None, Contender::glock(url))
}

fn redis(url: &str) -> Race {
    Race::new("redis", None, Contender::glock(url))
}

/// How a store's programs are set up.
type Setup = fn(&str) -> Race;

fn main() -> ExitCode {
    let directory = std::env::temp_dir().join(fresh_namespace());
    std::fs::create_dir(&directory).expect("a directory for the locks");
    let stores: [(&str, Setup); 4] = [
        ("GLOCK_ETCD_URL", etcd),
        ("GLOCK_CONSUL_URL", consul),
        ("GLOCK_POSTGRES_URL", postgres),
        ("GLOCK_REDIS_URL", redis),
    ];
    let servers = stores.into_iter().filter_map(|(name, setup)| Some(setup(&variable(name)?)));
    let mut races: Vec<_> = [sqlite(&directory)].into_iter().chain(servers).collect();
    let mut table =
        format!("{:<10} {:<14} {:>12} {:>12}  budget\n", "store", "program", "start +", "end +");
    let mut holds = true;
    for race in &mut races {
        race.run();
        holds &= race.report(&mut table);
    }
    say(&format!("{table}{}", busyness()));
    // The system removes what is left of it.
    let _ = std::fs::remove_dir_all(&directory);
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[expect(clippy::print_stdout, reason = "a bench prints its result")]
fn say(text: &str) {
    println!("{text}");
}
