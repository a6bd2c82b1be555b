//! `FakeServer`: a server that replies what a test says.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use glock_redis::redis::{Client, ConnectionAddr, IntoConnectionInfo};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// What a client sent: a command and its arguments.
pub(crate) type Sent = Vec<String>;

/// What to do about a command.
pub(crate) enum Then {
    /// Reply this.
    Reply(String),
    /// Do not reply, and read on.
    Ignore,
    /// Close the connection.
    Close,
}

/// A reply that is an error.
pub(crate) fn error(line: &str) -> Then {
    Then::Reply(format!("-{line}\r\n"))
}

/// What `acquire.lua` replies to a grant.
pub(crate) fn granted(token: u64) -> Then {
    let token = token.to_string();
    Then::Reply(format!("${}\r\n{token}\r\n", token.len()))
}

/// What `acquire.lua` replies where the lock is held for so long; the waiter is the first in the queue.
pub(crate) fn refused(millis: u64) -> Then {
    Then::Reply(format!("*4\r\n$1\r\nw\r\n$1\r\n7\r\n:{millis}\r\n:1\r\n"))
}

/// What `heartbeat.lua` replies of one lock, if there is nothing to do for its waiters.
pub(crate) fn waiting() -> Then {
    Then::Reply("*1\r\n*3\r\n:0\r\n:0\r\n:0\r\n".into())
}

/// What `inspect.lua` replies of a lock that is held for a minute.
pub(crate) fn held(token: u64) -> Then {
    let token = token.to_string();
    Then::Reply(format!("*3\r\n$1\r\nw\r\n${}\r\n{token}\r\n:60000\r\n", token.len()))
}

/// What a server replies to `SUBSCRIBE`.
pub(crate) fn subscribed(channel: &str) -> Then {
    let len = channel.len();
    Then::Reply(format!(">3\r\n$9\r\nsubscribe\r\n${len}\r\n{channel}\r\n:1\r\n"))
}

/// What a command that runs a script is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Acquire,
    Renew,
    Release,
    Inspect,
    Leave,
    Heartbeat,
    Watch,
}

/// Each script has another text, or another number of keys and arguments.
pub(crate) fn purpose(command: &Sent) -> Option<Purpose> {
    if !command[0].starts_with("EVAL") {
        return None;
    }
    let args: Vec<&str> = command[3..].iter().map(String::as_str).collect();
    Some(match (command[2].as_str(), &args[..]) {
        ("1", [_]) => Purpose::Inspect,
        ("1", [_, _, _]) => Purpose::Renew,
        // The owner token, or the waiter's name; or the client's and a time.
        ("3", [.., waiter, _]) if args.len() == 5 && waiter.contains(':') => Purpose::Leave,
        ("3", [.., kept]) if args.len() == 5 && kept.parse::<u64>().is_ok() => Purpose::Watch,
        ("3", _) if args.len() == 5 => Purpose::Release,
        ("3", [_, _, _, _, ttl, ..]) if ttl.parse::<u64>().is_ok() => Purpose::Acquire,
        _ => Purpose::Heartbeat,
    })
}

/// It runs until it is dropped.
pub(crate) struct FakeServer {
    port: u16,
    sent: Arc<Mutex<Vec<Sent>>>,
    connections: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl FakeServer {
    /// Does what `reply` says. Commands that it says nothing about, such as the handshake, succeed.
    pub(crate) async fn start(
        reply: impl Fn(&Sent) -> Option<Then> + Clone + Send + Sync + 'static,
    ) -> Self {
        Self::start_numbered(move |_, sent| reply(sent)).await
    }

    /// The same, where what it does may depend on the connection, of which the first is number 0.
    pub(crate) async fn start_numbered(
        reply: impl Fn(usize, &Sent) -> Option<Then> + Clone + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let sent: Arc<Mutex<Vec<Sent>>> = Arc::default();
        let connections = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        let (log, count) = (Arc::clone(&sent), Arc::clone(&connections));
        tasks.spawn(async move {
            let mut served = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let number = count.fetch_add(1, SeqCst);
                let (reply, log) = (reply.clone(), Arc::clone(&log));
                served.spawn(async move {
                    let reply = |sent: &Sent| reply(number, sent);
                    serve(stream, reply, log).await.unwrap_or_default();
                });
            }
        });
        Self { port, sent, connections, _tasks: tasks }
    }

    /// A client of this server, with a user and a password.
    pub(crate) fn client(&self, user: &str, password: &str) -> Client {
        let info = "redis://x/".into_connection_info().unwrap();
        let settings = info.redis_settings().clone().set_username(user).set_password(password);
        let addr = ConnectionAddr::Tcp("127.0.0.1".into(), self.port);
        Client::open(info.set_addr(addr).set_redis_settings(settings)).unwrap()
    }

    /// The commands of that name that came, in order.
    pub(crate) fn sent(&self, name: &str) -> Vec<Sent> {
        let sent = self.sent.lock().unwrap();
        sent.iter().filter(|command| command[0] == name).cloned().collect()
    }

    /// How often a script was run for this.
    pub(crate) fn count(&self, of: Purpose) -> usize {
        self.sent.lock().unwrap().iter().filter(|command| purpose(command) == Some(of)).count()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}

async fn serve(
    stream: TcpStream,
    reply: impl Fn(&Sent) -> Option<Then>,
    log: Arc<Mutex<Vec<Sent>>>,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let command = read(&mut stream).await?;
        log.lock().unwrap().push(command.clone());
        let then = reply(&command).unwrap_or_else(|| match command[0].as_str() {
            "HELLO" => Then::Reply("%1\r\n+proto\r\n:3\r\n".into()),
            _ => Then::Reply("+OK\r\n".into()),
        });
        match then {
            Then::Reply(text) => stream.write_all(text.as_bytes()).await?,
            Then::Ignore => {}
            Then::Close => return Ok(()),
        }
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> std::io::Result<Sent> {
    let count = number(stream).await?;
    let mut command = Vec::with_capacity(count);
    for _ in 0..count {
        let mut part = vec![0; number(stream).await? + 2];
        stream.read_exact(&mut part).await?;
        part.truncate(part.len() - 2);
        command.push(String::from_utf8_lossy(&part).into_owned());
    }
    Ok(command)
}

/// The number in `*3` or `$5`.
async fn number(stream: &mut BufReader<TcpStream>) -> std::io::Result<usize> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let digits = line.trim_end().get(1..).unwrap_or_default();
    digits.parse().map_err(std::io::Error::other)
}
