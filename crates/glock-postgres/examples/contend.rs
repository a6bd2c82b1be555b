//! Processes contend for one lock; its holder is killed, and the next takes over.
//!
//! `GLOCK_POSTGRES_URL=postgres://user:password@host/database cargo run -p glock-postgres --example contend`

#![allow(clippy::print_stdout, reason = "it is there to be watched")]

use std::{
    env, io,
    process::{ExitCode, Stdio},
    time::Duration,
};

use glock_postgres::{Lock, LockExt, LockId, PostgresLock, Retry};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::mpsc,
    time::{Instant, sleep, timeout},
};

const URL: &str = "GLOCK_POSTGRES_URL";
/// Set in the processes that contend; its value is the process's name.
const ROLE: &str = "CONTEND_ROLE";
const LOCK: &str = "example/contend";
const NAMES: [&str; 3] = ["anna", "bert", "cleo"];

const TTL: Duration = Duration::from_secs(3);
const WORK: Duration = Duration::from_millis(700);
/// How often the lock changes hands before its holder is killed.
const TURNS: usize = 5;
/// How long the next may take beyond the TTL.
const SLACK: Duration = Duration::from_secs(2);

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> ExitCode {
    let Ok(url) = env::var(URL) else {
        eprintln!("set a server: {URL}=postgres://user:password@host/database");
        return ExitCode::FAILURE;
    };
    let done = match env::var(ROLE) {
        Ok(name) => contend(&url, &name).await,
        Err(_) => watch(&url).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("{err}");
            ExitCode::FAILURE
        }
    }
}

/// One of the processes: takes the lock, works, releases it, and again, until it is killed.
async fn contend(url: &str, name: &str) -> Result<(), Failure> {
    let lock = PostgresLock::connect(url).await?;
    loop {
        let guard = lock.hold(LOCK, TTL, Retry::FOREVER).await?;
        println!("{name} {}", guard.fence());
        sleep(WORK).await;
        guard.release().await?;
    }
}

/// Starts the processes, tells what they say, and kills one that holds the lock.
async fn watch(url: &str) -> Result<(), Failure> {
    let lock = PostgresLock::connect(url).await?;
    lock.ensure_schema().await?;
    println!("three processes want the lock `{LOCK}` for {WORK:?} each, again and again\n");
    let (tell, mut told) = mpsc::unbounded_channel();
    let mut processes = Vec::new();
    for name in NAMES {
        processes.push((name, start(name, &tell)?));
    }
    let began = Instant::now();
    let mut last = 0;
    for turn in 0.. {
        let (name, token) = next(&mut told, WORK * 20).await?;
        check(last, token)?;
        last = token;
        println!("{:>6.2?}  {name} holds it with token {token}", began.elapsed());
        if turn == TURNS {
            kill(&name, &mut processes).await?;
            break;
        }
    }
    let killed = Instant::now();
    let holder = lock.inspect(&LockId::new(LOCK)?).await?;
    let holder = holder.ok_or("the lock went with the process; its TTL should keep it")?;
    println!("\n        .. and is killed with SIGKILL. PostgreSQL still says: held by {holder}\n");

    let (name, token) = next(&mut told, TTL + SLACK).await?;
    check(last, token)?;
    println!(
        "{:>6.2?}  {name} holds it with token {token}: {:.2?} after the kill, as the TTL of {TTL:?} had run out",
        began.elapsed(),
        killed.elapsed()
    );
    println!(
        "\nwhoever was killed could still write late; what the lock protects refuses tokens below {token}"
    );
    for (_, mut process) in processes {
        process.kill().await?;
    }
    Ok(())
}

/// Runs this program once more, as a process that contends.
fn start(name: &'static str, tell: &mpsc::UnboundedSender<String>) -> io::Result<Child> {
    let mut process = Command::new(env::current_exe()?)
        .env(ROLE, name)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let tell = tell.clone();
    if let Some(output) = process.stdout.take() {
        tokio::spawn(async move {
            let mut lines = BufReader::new(output).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if tell.send(line).is_err() {
                    break;
                }
            }
        });
    }
    Ok(process)
}

/// The next grant: who, and with which token.
async fn next(
    told: &mut mpsc::UnboundedReceiver<String>,
    patience: Duration,
) -> Result<(String, u64), Failure> {
    let line = timeout(patience, told.recv()).await.map_err(|_| "nobody took the lock in time")?;
    let line = line.ok_or("the processes are gone")?;
    let (name, token) = line.split_once(' ').ok_or("a process said something else")?;
    Ok((name.into(), token.parse()?))
}

fn check(last: u64, token: u64) -> Result<(), Failure> {
    if token > last { Ok(()) } else { Err(format!("token {token} came after {last}").into()) }
}

async fn kill(name: &str, processes: &mut Vec<(&str, Child)>) -> Result<(), Failure> {
    let at = processes.iter().position(|(other, _)| *other == name);
    let (_, mut process) = processes.remove(at.ok_or("it is not one of the processes")?);
    process.kill().await?;
    Ok(())
}
