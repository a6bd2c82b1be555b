//! `FakeServer`: an endpoint that replies as a test says, where DynamoDB Local cannot be made to.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// The status and the body of a reply; `None` for no reply, ever.
pub(crate) type Reply = Option<(u16, String)>;
type Script = dyn FnMut(&Request) -> Reply + Send;

/// What a client sent.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Such as `UpdateItem`.
    pub(crate) operation: String,
    pub(crate) body: String,
}

#[derive(Clone)]
pub(crate) struct FakeServer {
    pub(crate) addr: SocketAddr,
    received: Arc<Mutex<Vec<Request>>>,
}

impl FakeServer {
    /// Replies to each request by `script`, as long as the test's runtime lives.
    pub(crate) async fn start(script: impl FnMut(&Request) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let script: Arc<Mutex<Box<Script>>> = Arc::new(Mutex::new(Box::new(script)));
        let this = Self { addr, received: Arc::default() };
        let received = Arc::clone(&this.received);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&script), Arc::clone(&received)));
            }
        });
        this
    }

    /// Knows no credentials, as AWS says it.
    pub(crate) async fn start_refusing() -> SocketAddr {
        let text = "The security token included in the request is invalid.";
        Self::start(move |_| Some(error(400, "UnrecognizedClientException", text))).await.addr
    }

    /// What was received so far.
    pub(crate) fn received(&self) -> Vec<Request> {
        self.received.lock().unwrap().clone()
    }
}

/// An error reply in the service's form.
pub(crate) fn error(status: u16, code: &str, message: &str) -> (u16, String) {
    let body = format!(
        "{{\"__type\":\"com.amazonaws.dynamodb.v20120810#{code}\",\"message\":\"{message}\"}}"
    );
    (status, body)
}

async fn serve(
    mut stream: TcpStream,
    script: Arc<Mutex<Box<Script>>>,
    received: Arc<Mutex<Vec<Request>>>,
) {
    let mut read = Vec::new();
    while let Some(request) = request(&mut stream, &mut read).await {
        received.lock().unwrap().push(request.clone());
        let reply = script.lock().unwrap()(&request);
        let Some((status, body)) = reply else { return std::future::pending().await };
        let head = format!(
            "HTTP/1.1 {status} x\r\nContent-Type: application/x-amz-json-1.0\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        if stream.write_all(format!("{head}{body}").as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The next request, or nothing once the client is gone.
async fn request(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<Request> {
    loop {
        if let Some((length, request)) = parse(read) {
            read.drain(..length);
            return Some(request);
        }
        if stream.read_buf(read).await.ok()? == 0 {
            return None;
        }
    }
}

/// A whole request at the beginning of `bytes`, and its length.
fn parse(bytes: &[u8]) -> Option<(usize, Request)> {
    let text = String::from_utf8_lossy(bytes);
    let (head, rest) = text.split_once("\r\n\r\n")?;
    let header = |name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    };
    let length = header("content-length").map_or(0, |digits| digits.parse().unwrap());
    let body = rest.get(..length)?.to_owned();
    let operation = header("x-amz-target").unwrap_or_default();
    let operation = operation.rsplit('.').next().unwrap_or_default().to_owned();
    Some((head.len() + 4 + length, Request { operation, body }))
}
