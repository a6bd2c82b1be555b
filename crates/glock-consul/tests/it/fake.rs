//! `Fake`: an agent that answers as a test says.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What the agent does with a request: its status, its `X-Consul-Index` and its body; `None` to never
/// answer.
pub(crate) type Answer = Option<(u16, Option<u64>, String)>;
type Script = dyn FnMut(&str) -> Answer + Send;

pub(crate) struct Fake {
    pub(crate) addr: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    server: JoinHandle<()>,
}

impl Fake {
    /// Answers each request line by `script`.
    pub(crate) async fn start(script: impl FnMut(&str) -> Answer + Send + 'static) -> Self {
        Self::slow(|_| Duration::ZERO, script).await
    }

    /// Answers each request line by `script`, as much later as `delay` says.
    pub(crate) async fn slow(
        delay: fn(&str) -> Duration,
        script: impl FnMut(&str) -> Answer + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let script: Arc<Mutex<Box<Script>>> = Arc::new(Mutex::new(Box::new(script)));
        let asked = Arc::default();
        let server = tokio::spawn({
            let asked = Arc::clone(&asked);
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, delay, Arc::clone(&script), Arc::clone(&asked)));
                }
            }
        });
        Self { addr, asked, server }
    }

    /// The request lines so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    delay: fn(&str) -> Duration,
    script: Arc<Mutex<Box<Script>>>,
    asked: Arc<Mutex<Vec<String>>>,
) {
    let mut read = Vec::new();
    loop {
        let Some(line) = request(&mut stream, &mut read).await else { return };
        asked.lock().unwrap().push(line.clone());
        let answer = script.lock().unwrap()(&line);
        tokio::time::sleep(delay(&line)).await;
        let Some((status, index, body)) = answer else { return std::future::pending().await };
        let index = index.map_or(String::new(), |index| format!("X-Consul-Index: {index}\r\n"));
        let head = format!("HTTP/1.1 {status} x\r\n{index}Content-Length: {}\r\n\r\n", body.len());
        if stream.write_all(format!("{head}{body}").as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The next request's line; the body is skipped.
async fn request(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<String> {
    loop {
        let text = String::from_utf8_lossy(read).into_owned();
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().unwrap())
            });
            let whole = head.len() + 4 + length.unwrap_or(0);
            if read.len() >= whole {
                read.drain(..whole);
                return head.lines().next().map(ToOwned::to_owned);
            }
        }
        if stream.read_buf(read).await.ok()? == 0 {
            return None;
        }
    }
}
