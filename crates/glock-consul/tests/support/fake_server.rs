//! `FakeServer`: an agent that replies as a test says.

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

/// What the agent does with a request: its status, its `X-Consul-Index` and its body; `None` for
/// no reply.
pub(crate) type Reply = Option<(u16, Option<u64>, String)>;
type Script = dyn FnMut(&str) -> Reply + Send;

pub(crate) struct FakeServer {
    pub(crate) addr: SocketAddr,
    received: Arc<Mutex<Vec<String>>>,
    server: JoinHandle<()>,
}

impl FakeServer {
    /// Replies to each request line by `script`.
    pub(crate) async fn start(script: impl FnMut(&str) -> Reply + Send + 'static) -> Self {
        Self::slow(|_| Duration::ZERO, script).await
    }

    /// Replies to each request line by `script`, as much later as `delay` says.
    pub(crate) async fn slow(
        delay: fn(&str) -> Duration,
        script: impl FnMut(&str) -> Reply + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let script: Arc<Mutex<Box<Script>>> = Arc::new(Mutex::new(Box::new(script)));
        let received = Arc::default();
        let server = tokio::spawn({
            let received = Arc::clone(&received);
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, delay, Arc::clone(&script), Arc::clone(&received)));
                }
            }
        });
        Self { addr, received, server }
    }

    /// The request lines so far.
    pub(crate) fn received(&self) -> Vec<String> {
        self.received.lock().unwrap().clone()
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    delay: fn(&str) -> Duration,
    script: Arc<Mutex<Box<Script>>>,
    received: Arc<Mutex<Vec<String>>>,
) {
    let mut read = Vec::new();
    loop {
        let Some(line) = request(&mut stream, &mut read).await else { return };
        received.lock().unwrap().push(line.clone());
        let reply = script.lock().unwrap()(&line);
        tokio::time::sleep(delay(&line)).await;
        let Some((status, index, body)) = reply else { return std::future::pending().await };
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
