//! Starts servers, prints how to reach them, and stops them when its standard input ends.
//!
//! `glock-servers [--native DIR | --containers] NAME..` prints a line `NAME VERSION RUNTIME URL` for each
//! server, then `ready`. It then takes lines such as `pause redis7` and answers each by `ok` or `error ..`.
//! The process that starts it holds its input, so that no server outlives that process, however it ends.
//!
//! Servers do not wait for the disk, unless the variable `GLOCK_AWAIT_DISK` is set.

use std::{
    io::{self, Write},
    pin::pin,
    process::ExitCode,
    time::Duration,
};

use glock_harness::server::{Command, Product, Server, ServerError, Source};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{
        mpsc::{UnboundedReceiver, unbounded_channel},
        oneshot,
    },
    task::JoinSet,
    time::timeout,
};

const USAGE: &str = "usage: glock-servers [--native DIR | --containers] NAME..";

/// How long a start may go on after its caller has left.
const HURRY: Duration = Duration::from_secs(15);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let printed = writeln!(io::stderr(), "glock-servers: {error}");
            drop(printed);
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let (source, products) = arguments(std::env::args().skip(1))?;
    let (mut lines, end) = input();
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut starting = pin!(start_all(&source, products));
    let mut servers = tokio::select! {
        servers = &mut starting => servers?,
        () = ended(end, &mut interrupt, &mut terminate) => {
            // A container that is half started can only be removed once it is there.
            let started = timeout(HURRY, starting).await;
            return close_all(started.unwrap_or(Ok(Vec::new()))?).await;
        }
    };
    for server in &servers {
        let Server { product, version, runtime, url, .. } = server;
        say(&format!("{} {version} {runtime} {url}", product.name))?;
    }
    say("ready")?;
    loop {
        let line = tokio::select! {
            line = lines.recv() => line,
            _ = interrupt.recv() => None,
            _ = terminate.recv() => None,
        };
        let Some(line) = line else { break };
        match obey(&line, &mut servers).await {
            Ok(()) => say("ok")?,
            Err(error) => say(&format!("error {error}"))?,
        }
    }
    close_all(servers).await
}

fn arguments(
    mut words: impl Iterator<Item = String>,
) -> Result<(Source, Vec<&'static Product>), Box<dyn std::error::Error>> {
    let mut source = Source::Containers;
    let mut products = Vec::new();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--containers" => source = Source::Containers,
            "--native" => {
                source = format!("native:{}", words.next().unwrap_or_default()).parse()?;
            }
            name => products.push(Product::named(name)?),
        }
    }
    if products.is_empty() {
        return Err(USAGE.into());
    }
    Ok((source, products))
}

/// All at once, in the order of the command line.
async fn start_all(
    source: &Source,
    products: Vec<&'static Product>,
) -> Result<Vec<Server>, ServerError> {
    let mut starting = JoinSet::new();
    for (place, product) in products.into_iter().enumerate() {
        let source = source.clone();
        starting.spawn(async move { (place, Server::start_new(product, &source).await) });
    }
    let mut all = starting.join_all().await;
    all.sort_by_key(|(place, _)| *place);
    let (mut servers, mut failure) = (Vec::new(), None);
    for (_, started) in all {
        match started {
            Ok(server) => servers.push(server),
            Err(error) => failure = Some(error),
        }
    }
    let Some(failure) = failure else { return Ok(servers) };
    // The failure is what matters; what does not stop is killed.
    drop(close_all(servers).await);
    Err(failure)
}

async fn close_all(servers: Vec<Server>) -> Result<(), Box<dyn std::error::Error>> {
    let mut closing = JoinSet::new();
    for server in servers {
        closing.spawn(server.close());
    }
    closing.join_all().await.into_iter().collect::<Result<(), _>>()?;
    Ok(())
}

async fn obey(line: &str, servers: &mut [Server]) -> Result<(), Box<dyn std::error::Error>> {
    let (command, name) = Command::from_line(line)?;
    let server = servers.iter_mut().find(|server| server.product.name == name);
    let server = server.ok_or_else(|| format!("no server {name:?} was started"))?;
    match command {
        Command::Stop => server.stop().await?,
        Command::Start => server.start().await?,
        Command::Pause => server.pause().await?,
        Command::Resume => server.resume().await?,
        Command::Kill => server.kill().await?,
        other => return Err(format!("{other} cannot be done here").into()),
    }
    Ok(())
}

/// The lines of the standard input and its end, read by a thread: a blocked read must not hold up the end.
fn input() -> (UnboundedReceiver<String>, oneshot::Receiver<()>) {
    let (sender, lines) = unbounded_channel();
    let (ended, end) = oneshot::channel::<()>();
    std::thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
        drop(ended);
    });
    (lines, end)
}

/// Waits until the user is gone or wants it to end.
async fn ended(end: oneshot::Receiver<()>, interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        // Nothing is ever sent: it resolves when the thread that reads has ended.
        _ = end => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
