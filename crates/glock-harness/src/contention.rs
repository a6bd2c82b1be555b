//! `Contention`: three processes want one lock, and one of them is killed while it holds it. For
//! examples, so that a person can watch what a lock does on a store of his own.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is there to be watched")]

use std::{
    collections::HashMap,
    env,
    error::Error,
    process::{ExitCode, Stdio},
    time::Duration,
};

use glock_core::{Lock, LockExt, LockId, Retry};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::mpsc,
    time::{Instant, sleep, timeout},
};

use crate::failures::chain;

/// An example in which processes contend for a lock.
#[derive(Debug, Clone, Copy)]
pub struct Contention {
    /// The variable that names the server.
    pub variable: &'static str,
    /// What it may say.
    pub url: &'static str,
    /// How long a lease lasts that is not renewed.
    pub ttl: Duration,
}

/// Whatever can go wrong in an example.
pub type Failure = Box<dyn Error + Send + Sync>;

/// Tells a process that it is one of the three, and which.
const NAME: &str = "GLOCK_CONTENTION_NAME";
const NAMES: [&str; 3] = ["anna", "bert", "cleo"];
const LOCK: &str = "examples/contend";
const WORK: Duration = Duration::from_millis(700);
/// Long enough for what was said to be read before what the next holder says.
const BREATH: Duration = Duration::from_millis(20);
/// Long enough for a waiter of another client to be first.
const REST: Duration = Duration::from_millis(100);
/// The holder of this grant is killed.
const KILLED_AT: u32 = 4;
const GRANTS: u32 = 9;
/// How much longer than promised something may take before the example fails.
const PATIENCE: Duration = Duration::from_secs(10);

/// What one of the three prints.
struct Message {
    name: String,
    verb: String,
    token: u64,
}

impl Contention {
    /// Runs the example: starts three processes like this one, each of which opens the lock by
    /// `open`, and tells what they do.
    ///
    /// # Cancel safety
    ///
    /// Dropped early, it kills the processes.
    pub async fn run<L: Lock + Clone>(
        self,
        open: impl AsyncFn(String) -> Result<L, Failure>,
    ) -> ExitCode {
        let Ok(url) = env::var(self.variable) else {
            eprintln!("set a server, as in {}={}", self.variable, self.url);
            return ExitCode::FAILURE;
        };
        self.run_at(url, open).await
    }

    /// Does the same on the store at `url`: for one that needs no server, and so no variable.
    ///
    /// # Cancel safety
    ///
    /// Dropped early, it kills the processes.
    pub async fn run_at<L: Lock + Clone>(
        self,
        url: String,
        open: impl AsyncFn(String) -> Result<L, Failure>,
    ) -> ExitCode {
        let done = match open(url.clone()).await {
            Ok(lock) => match env::var(NAME) {
                Ok(name) => self.contend(&lock, &name).await,
                Err(_) => self.watch(&lock, &url).await,
            },
            Err(err) => Err(err),
        };
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(err) => {
                eprintln!("{}", chain(&*err));
                ExitCode::FAILURE
            }
        }
    }

    /// One of the three: takes the lock, works and lets go, until it is killed.
    async fn contend<L: Lock + Clone>(self, lock: &L, name: &str) -> Result<(), Failure> {
        loop {
            let guard = lock.hold(LOCK, self.ttl, Retry::FOREVER).await?;
            println!("{name} holds {}", guard.fence());
            sleep(WORK).await;
            println!("{name} releases {}", guard.fence());
            sleep(BREATH).await;
            guard.release().await?;
            sleep(REST).await;
        }
    }

    /// Starts the three and tells what they do.
    async fn watch<L: Lock + Clone>(self, lock: &L, url: &str) -> Result<(), Failure> {
        let latest = lock.capabilities().expiry_latest(self.ttl);
        println!("three processes want the lock `{LOCK}`; each works {WORK:?} while it holds it.");
        println!("A dead holder's lock is free within {latest:?}.\n");
        let (sender, mut messages) = mpsc::unbounded_channel();
        let mut children = HashMap::new();
        for name in NAMES {
            children.insert(name.to_owned(), self.start(name, url, sender.clone())?);
        }
        drop(sender);
        let (mut grants, mut last, mut killed) = (0, 0, None::<Instant>);
        while grants < GRANTS {
            let Message { name, verb, token } = timeout(latest + PATIENCE, messages.recv())
                .await
                .map_err(|_| "no process got the lock for too long; is the server up?")?
                .ok_or("all three have ended")?;
            if verb == "releases" {
                println!("{name:>6} releases");
                continue;
            }
            if token <= last {
                return Err(format!("a bug: token {token} came after {last}").into());
            }
            (grants, last) = (grants + 1, token);
            println!("{name:>6} holds it, token {token} (greater than the last)");
            if let Some(at) = killed.take() {
                let after = at.elapsed().as_secs_f64();
                println!("        {after:.1} s after the kill; {latest:?} were allowed\n");
            }
            if grants == KILLED_AT
                && let Some(mut child) = children.remove(&name)
            {
                child.kill().await?;
                killed = Some(Instant::now());
                println!("\n{name:>6} is killed (SIGKILL) and releases nothing");
                if let Some(holder) = lock.inspect(&LockId::new(LOCK)?).await? {
                    println!("        the store still says: {holder}");
                }
            }
        }
        println!("\nenough seen; what the three leave behind is free within {latest:?}");
        Ok(())
    }

    /// Starts this program again as one of the three. It is killed when the child is dropped.
    fn start(
        self,
        name: &str,
        url: &str,
        said: mpsc::UnboundedSender<Message>,
    ) -> Result<Child, Failure> {
        let mut child = Command::new(env::current_exe()?)
            .env(NAME, name)
            .env(self.variable, url)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().ok_or("the child has no output")?;
        tokio::spawn(async move {
            let mut lines = BufReader::new(stdout).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if parse(&line).is_some_and(|line| said.send(line).is_err()) {
                    return;
                }
            }
        });
        Ok(child)
    }
}

fn parse(line: &str) -> Option<Message> {
    let words: Vec<_> = line.split(' ').collect();
    let [name, verb, token] = words[..] else { return None };
    Some(Message { name: name.into(), verb: verb.into(), token: token.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_three_say_is_heard() {
        let said = parse("anna holds 7").unwrap();
        assert_eq!((&*said.name, &*said.verb, said.token), ("anna", "holds", 7));
        for other in ["", "anna holds", "anna holds it", "anna holds 7 now"] {
            assert!(parse(other).is_none(), "{other}");
        }
    }
}
