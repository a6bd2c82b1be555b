//! Starts servers, prints how to reach them, and stops them when its standard input ends.
//!
//! `glock-servers [--native DIR | --containers] NAME..` prints a line `NAME VERSION RUNTIME URL` for each
//! server, then `ready`. It then takes lines such as `pause redis7` and answers each by `ok` or `error ..`.
//! Whoever starts it holds its input, so that no server outlives its user, however that one ends.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use glock_testing::server::{Command, Product, Server, ServerError, Source};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{
        mpsc::{UnboundedReceiver, unbounded_channel},
        oneshot,
    },
    task::JoinSet,
};

const USAGE: &str = "usage: glock-servers [--native DIR | --containers] NAME..";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let told = writeln!(io::stderr(), "glock-servers: {error}");
            drop(told);
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let (source, products) = arguments(std::env::args().skip(1))?;
    let (mut lines, end) = input();
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let starting = start_all(&source, products);
    let mut servers = tokio::select! {
        servers = starting => servers?,
        // A dropped start kills what it has started.
        _ = end => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
        _ = terminate.recv() => return Ok(()),
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
    for server in servers {
        server.close().await?;
    }
    Ok(())
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
    let mut started = Vec::new();
    for (place, server) in starting.join_all().await {
        started.push((place, server?));
    }
    started.sort_by_key(|(place, _)| *place);
    Ok(started.into_iter().map(|(_, server)| server).collect())
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

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
