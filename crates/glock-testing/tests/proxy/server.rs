//! A server that answers each line, and remembers what reached it and how each connection ended.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// Longer than anything here takes, on a busy machine too.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);
/// Long enough to say that nothing comes.
pub(crate) const SILENCE: Duration = Duration::from_millis(80);

/// Answers `x\n` with `ok x\n`, and `quiet..\n` with nothing.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    log: Arc<Mutex<Log>>,
    pushes: broadcast::Sender<&'static str>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Log {
    received: String,
    ends: Vec<End>,
}

/// How a connection ended, as one end sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Closed,
    Reset,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let log = Arc::new(Mutex::new(Log::default()));
        let pushes = broadcast::Sender::new(8);
        let task = tokio::spawn({
            let (log, pushes) = (Arc::clone(&log), pushes.clone());
            async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    tokio::spawn(answer(stream, Arc::clone(&log), pushes.subscribe()));
                }
            }
        });
        Self { addr, log, pushes, task }
    }

    /// All bytes that reached it, on any connection.
    pub(crate) fn received(&self) -> String {
        self.log.lock().unwrap().received.clone()
    }

    pub(crate) fn ends(&self) -> Vec<End> {
        self.log.lock().unwrap().ends.clone()
    }

    /// Says `text` on every connection, unasked.
    pub(crate) fn push(&self, text: &'static str) {
        self.pushes.send(text).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(
    mut stream: TcpStream,
    log: Arc<Mutex<Log>>,
    mut pushes: broadcast::Receiver<&'static str>,
) {
    stream.set_nodelay(true).unwrap();
    let (mut buffer, mut pending) = ([0; 4096], String::new());
    let end = loop {
        let read = tokio::select! {
            read = stream.read(&mut buffer) => read,
            push = pushes.recv() => {
                let Ok(text) = push else { break End::Closed };
                stream.write_all(text.as_bytes()).await.unwrap();
                continue;
            }
        };
        let said = match read {
            Ok(0) => break End::Closed,
            Err(_) => break End::Reset,
            Ok(count) => std::str::from_utf8(&buffer[..count]).unwrap(),
        };
        log.lock().unwrap().received.push_str(said);
        pending.push_str(said);
        while let Some((line, rest)) = pending.split_once('\n') {
            let reply = format!("ok {line}\n");
            if !line.starts_with("quiet") && stream.write_all(reply.as_bytes()).await.is_err() {
                break;
            }
            pending = rest.to_owned();
        }
    };
    log.lock().unwrap().ends.push(end);
}

/// One client's connection.
pub(crate) struct Client(TcpStream);

impl Client {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        let stream = timeout(LIMIT, TcpStream::connect(addr)).await.unwrap().unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    pub(crate) async fn say(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// Receives exactly `text`.
    pub(crate) async fn receives(&mut self, text: &str) {
        let mut received_bytes = vec![0; text.len()];
        timeout(LIMIT, self.0.read_exact(&mut received_bytes))
            .await
            .expect("no reply came")
            .unwrap();
        assert_eq!(std::str::from_utf8(&received_bytes).unwrap(), text);
    }

    pub(crate) async fn asks(&mut self, line: &str) {
        self.say(&format!("{line}\n")).await;
        self.receives(&format!("ok {line}\n")).await;
    }

    pub(crate) async fn hears_nothing(&mut self) {
        let received_bytes = timeout(SILENCE, self.0.read(&mut [0])).await;
        assert!(received_bytes.is_err(), "expected silence, got {received_bytes:?}");
    }

    /// How the connection ends, with nothing received before.
    pub(crate) async fn ends(&mut self) -> End {
        match timeout(LIMIT, self.0.read(&mut [0])).await.expect("the connection stays open") {
            Ok(0) => End::Closed,
            Ok(_) => panic!("expected the end, received a byte"),
            Err(_) => End::Reset,
        }
    }
}

pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        sleep(Duration::from_millis(2)).await;
    }
}
