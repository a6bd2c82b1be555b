//! Three processes want one lock. One of them is killed while it holds it.
//!
//! ```sh
//! GLOCK_REDIS_URL=redis://127.0.0.1/ cargo run -p glock-redis --example contend
//! ```
#![expect(clippy::print_stdout, reason = "an example tells what it does")]

use std::{collections::HashMap, error::Error, process::Stdio, time::Duration};

use glock_redis::{LockExt, RedisLock, Retry, redis::Client};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::mpsc,
    time::{self, Instant},
};

const URL: &str = "GLOCK_REDIS_URL";
/// Tells a process that it is one of the three, and which.
const NAME: &str = "GLOCK_CONTEND_NAME";
const NAMES: [&str; 3] = ["anna", "bert", "cleo"];
const LOCK: &str = "examples/contend";
const TTL: Duration = Duration::from_secs(2);
const WORK: Duration = Duration::from_millis(700);
/// Long enough for a waiter to be first: whoever asks again at once may come before it.
const REST: Duration = Duration::from_millis(100);
/// The holder of this grant is killed.
const KILLED_AT: u32 = 4;
const GRANTS: u32 = 9;
const SILENCE_MAX: Duration = Duration::from_secs(20);

type Done = Result<(), Box<dyn Error>>;

#[tokio::main]
async fn main() -> Done {
    let Ok(url) = std::env::var(URL) else {
        eprintln!("{URL} is not set; set it to a server, as in {URL}=redis://127.0.0.1/");
        std::process::exit(1);
    };
    match std::env::var(NAME) {
        Ok(name) => contend(&url, &name).await,
        Err(_) => watch().await,
    }
}

/// One of the three: takes the lock, works, lets go, for ever.
async fn contend(url: &str, name: &str) -> Done {
    let lock = RedisLock::new(Client::open(url)?);
    loop {
        let guard = lock.hold(LOCK, TTL, Retry::within(SILENCE_MAX)).await?;
        println!("{name} holds {}", guard.fence());
        time::sleep(WORK).await;
        println!("{name} releases {}", guard.fence());
        guard.release().await?;
        time::sleep(REST).await;
    }
}

/// What one of the three said.
struct Said {
    name: String,
    verb: String,
    token: u64,
}

/// Starts the three and prints what they do.
async fn watch() -> Done {
    println!("three processes want the lock `{LOCK}`; each works {WORK:?} while it holds it,");
    println!("and its lease lasts {TTL:?} unless it is renewed\n");
    let (said, mut heard) = mpsc::unbounded_channel();
    let mut children = HashMap::new();
    for name in NAMES {
        children.insert(name.to_owned(), start(name, said.clone())?);
    }
    let (mut grants, mut last, mut killed) = (0, 0, None);
    while grants < GRANTS {
        let Said { name, verb, token } = time::timeout(SILENCE_MAX, heard.recv())
            .await
            .map_err(|_| "nobody got the lock for too long; is the server up?")?
            .ok_or("all three have ended")?;
        if verb == "releases" {
            println!("{name:>6} releases");
            continue;
        }
        grants += 1;
        let order = if token > last { "greater than the last" } else { "NOT GREATER, a bug" };
        println!("{name:>6} holds it, token {token} ({order})");
        last = token;
        if let Some(at) = killed.take() {
            let after = Instant::now().duration_since(at);
            println!(
                "        {:.1} s after the kill: the lease had to run out\n",
                after.as_secs_f64()
            );
        }
        if grants == KILLED_AT
            && let Some(mut child) = children.remove(&name)
        {
            child.kill().await?;
            killed = Some(Instant::now());
            println!("\n{name:>6} is killed (SIGKILL) and releases nothing");
        }
    }
    println!("\nenough seen; the lock frees itself within {TTL:?}");
    Ok(())
}

/// Starts this program again as one of the three. It is killed when the child is dropped.
fn start(name: &str, said: mpsc::UnboundedSender<Said>) -> Result<Child, Box<dyn Error>> {
    let mut child = Command::new(std::env::current_exe()?)
        .env(NAME, name)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stdout = child.stdout.take().ok_or("the child has no output")?;
    tokio::spawn(async move {
        let mut lines = BufReader::new(stdout).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let mut words = line.split(' ').map(str::to_owned);
            let (Some(name), Some(verb), Some(token)) = (words.next(), words.next(), words.next())
            else {
                continue;
            };
            let Ok(token) = token.parse() else { continue };
            if said.send(Said { name, verb, token }).is_err() {
                return;
            }
        }
    });
    Ok(child)
}
