//! `Transport`: a client's connection for commands, and how a broken one is replaced.

use std::{fmt, io, net::SocketAddr, time::Duration};

use glock_core::{Action, Fault, LockError};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::Mutex,
    time::{sleep, timeout},
};

use crate::flaw::Flaw;

pub(crate) const BACKEND: &str = "toy";

/// Where the store is and how to get in.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub server: SocketAddr,
    pub password: String,
    pub flaw: Flaw,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Endpoint");
        shown.field("server", &self.server);
        if self.flaw == Flaw::PasswordInDebug {
            shown.field("password", &self.password);
        }
        shown.finish_non_exhaustive()
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The store does not let us in.
    Denied(String),
    /// Nothing was sent.
    NotSent(io::Error),
    /// Something was sent, and may have been done.
    NoAnswer(io::Error),
}

impl Failure {
    pub(crate) fn during(self, flaw: Flaw, action: Action) -> LockError {
        match self {
            Self::Denied(why) => LockError::backend(BACKEND, action, Fault::Rejected, why),
            Self::NotSent(err) | Self::NoAnswer(err) if flaw == Flaw::OutageIsRejected => {
                LockError::backend(BACKEND, action, Fault::Rejected, err)
            }
            Self::NotSent(err) => LockError::backend(BACKEND, action, Fault::Unavailable, err),
            Self::NoAnswer(err) => LockError::backend(BACKEND, action, Fault::Unknown, err),
        }
    }
}

impl Endpoint {
    /// A connection that the store has let in.
    pub(crate) async fn open(&self) -> Result<Connection, Failure> {
        let stream = loop {
            match TcpStream::connect(self.server).await {
                Err(_) if self.flaw == Flaw::ConnectsForEver => {
                    sleep(Duration::from_millis(20)).await;
                }
                Err(err) if self.flaw == Flaw::ClosedPortIsUnknown => {
                    return Err(Failure::NoAnswer(err));
                }
                connected => break connected.map_err(Failure::NotSent)?,
            }
        };
        stream.set_nodelay(true).map_err(Failure::NotSent)?;
        let mut connection = Connection { stream: BufReader::new(stream), flaw: self.flaw };
        let reply = connection.ask(&format!("AUTH {}", self.password)).await;
        match reply.map_err(Failure::NotSent)?.as_str() {
            "OK" => Ok(connection),
            _ if self.flaw == Flaw::WrongPasswordIsUnavailable => {
                Err(Failure::NotSent(io::ErrorKind::PermissionDenied.into()))
            }
            _ if self.flaw == Flaw::PasswordInError => {
                Err(Failure::Denied(format!("`{}` is not the password", self.password)))
            }
            _ => Err(Failure::Denied("the password is wrong".into())),
        }
    }
}

/// One connection, after the greeting.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    flaw: Flaw,
}

impl Connection {
    pub(crate) async fn ask(&mut self, request: &str) -> io::Result<String> {
        self.stream.write_all(format!("{request}\n").as_bytes()).await?;
        // Only the flawed ask twice at once, and want the last answer.
        for _ in request.lines().skip(1) {
            self.line().await?;
        }
        self.line().await
    }

    pub(crate) async fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        let read = self.stream.read_until(b'\n', &mut line).await;
        let half = line.last() != Some(&b'\n');
        if half && (line.is_empty() || self.flaw != Flaw::TakesHalfReplies) {
            return Err(read.err().unwrap_or(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned())
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub text: String,
    /// The request was sent before, and that time no answer came.
    pub again: bool,
}

/// One kept connection, with one request at a time.
#[derive(Debug)]
pub(crate) struct Transport {
    pub endpoint: Endpoint,
    /// How long one attempt waits for its reply.
    attempt_max: Duration,
    connection_state: Mutex<ConnectionState>,
}

#[derive(Debug, Default)]
enum ConnectionState {
    #[default]
    None,
    Connection(Connection),
    /// Only the flawed keep what is of no use.
    Broken,
}

impl Transport {
    /// Two attempts fit into a call of `call_timeout`, and into what a renewed lease of six seconds has left.
    pub(crate) fn new(endpoint: Endpoint, call_timeout: Duration) -> Self {
        let attempt_max = match endpoint.flaw {
            Flaw::AttemptTakesWholeCall
            | Flaw::NoTimeLimit
            | Flaw::WaitHasNoTimeLimit
            | Flaw::ConnectsForEver
            | Flaw::StuckCallBlocks => Duration::MAX,
            _ => call_timeout / 5 * 2,
        };
        Self { endpoint, attempt_max, connection_state: Mutex::default() }
    }

    /// Sends a request that may be sent twice, and does so if a connection breaks.
    pub(crate) async fn ask(&self, request: &str) -> Result<Reply, Failure> {
        match self.ask_once(request).await {
            Err(Failure::NoAnswer(err)) if self.endpoint.flaw == Flaw::NoRetry => {
                Err(Failure::NoAnswer(err))
            }
            Err(Failure::NoAnswer(err)) if self.endpoint.flaw == Flaw::CutIsUnavailable => {
                Err(Failure::NotSent(err))
            }
            Err(Failure::NoAnswer(first)) => match self.ask_once(request).await {
                // It may have been done the first time.
                Err(Failure::NotSent(_)) => Err(Failure::NoAnswer(first)),
                reply => Ok(Reply { text: reply?, again: true }),
            },
            reply => Ok(Reply { text: reply?, again: false }),
        }
    }

    /// Sends a request and does not send it again.
    pub(crate) async fn ask_once(&self, request: &str) -> Result<String, Failure> {
        let mut connection_state = self.connection_state.lock().await;
        // A call that is dropped in here leaves no connection: the next call cannot use half a reply.
        let mut connection = match std::mem::take(&mut *connection_state) {
            ConnectionState::Connection(connection) => connection,
            ConnectionState::None => {
                let opened = timeout(self.attempt_max, self.endpoint.open()).await;
                opened.map_err(|_| Failure::NotSent(io::ErrorKind::TimedOut.into()))??
            }
            ConnectionState::Broken => {
                *connection_state = ConnectionState::Broken;
                return Err(Failure::NoAnswer(io::ErrorKind::NotConnected.into()));
            }
        };
        if self.endpoint.flaw == Flaw::StuckCallBlocks {
            *connection_state = ConnectionState::Broken;
        }
        let reply = timeout(self.attempt_max, connection.ask(request)).await;
        match reply.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(reply) => {
                *connection_state = ConnectionState::Connection(connection);
                Ok(reply)
            }
            Err(err) => {
                let stays_broken = self.endpoint.flaw == Flaw::NeverReconnects;
                *connection_state =
                    if stays_broken { ConnectionState::Broken } else { ConnectionState::None };
                Err(Failure::NoAnswer(err))
            }
        }
    }
}
