//! A server of a few lines, for what no real one does on demand.

use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use glock_core::Action;
use zookeeper_client::Client;

use crate::{
    session::node_options::NodeOptions,
    session::opener::{Session, Sessions},
};

/// What becomes of a transaction.
#[derive(Clone, Copy)]
pub(crate) enum Answer {
    /// It has made a node, of which no more is said: as by servers before 3.7.2, 3.8.2 and 3.9.0.
    Made,
    /// Its first operation fails with this code.
    Refused(i32),
    /// The session is over.
    Expired,
    /// The connection is, before anything was answered.
    Lost,
}

pub(crate) const NO_NODE: i32 = -101;
pub(crate) const NODE_EXISTS: i32 = -110;
pub(crate) const THROTTLED: i32 = -127;
const EXPIRED: i32 = -112;
const FAILED: i32 = -1;
const CREATE: i32 = 1;
const PING: i32 = 11;
const MULTI: i32 = 14;
const SESSION: Duration = Duration::from_secs(8);
const SOON: Duration = Duration::from_secs(5);

/// Starts a server that opens every session, and answers each transaction as `answer` says. Where it
/// listens.
pub(crate) fn start(answer: impl FnMut(&[u8]) -> Answer + Send + 'static) -> String {
    // Whatever else is asked for is not there.
    start_whose_reads(|| NO_NODE, answer)
}

/// The same, where all else that is asked for fails as `reads` says.
fn start_whose_reads(
    mut reads: impl FnMut() -> i32 + Send + 'static,
    mut answer: impl FnMut(&[u8]) -> Answer + Send + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            // The client has gone, as it may.
            let _ = serve(&mut stream.unwrap(), &mut reads, &mut answer);
        }
    });
    address
}

/// Sessions with such a server.
pub(crate) fn sessions(answer: impl FnMut(&[u8]) -> Answer + Send + 'static) -> Sessions {
    sessions_whose_reads(|| NO_NODE, answer)
}

/// The same, where all else that is asked for fails as `reads` says.
pub(crate) fn sessions_whose_reads(
    reads: impl FnMut() -> i32 + Send + 'static,
    answer: impl FnMut(&[u8]) -> Answer + Send + 'static,
) -> Sessions {
    let (address, node_options) =
        (start_whose_reads(reads, answer), NodeOptions::new(None, String::new(), false));
    Sessions::new(Client::connector(), address.into(), SESSION, SOON, Arc::new(node_options))
}

pub(crate) async fn open(sessions: &Sessions) -> Arc<Session> {
    sessions.get(Action::Acquire, SOON).await.unwrap()
}

fn serve(
    stream: &mut TcpStream,
    reads: &mut impl FnMut() -> i32,
    answer: &mut impl FnMut(&[u8]) -> Answer,
) -> io::Result<()> {
    frame(stream)?;
    let timeout = i32::try_from(SESSION.as_millis()).unwrap();
    let opened = [&0_i32.to_be_bytes()[..], &timeout.to_be_bytes(), &1_i64.to_be_bytes()].concat();
    send(stream, &[&opened[..], &16_i32.to_be_bytes(), &[7; 16], &[0]].concat())?;
    loop {
        let request = frame(stream)?;
        let code = i32::from_be_bytes(request[4..8].try_into().unwrap());
        let (err, body) = match code {
            MULTI => match answer(&request[8..]) {
                Answer::Made => (0, made("/x")),
                Answer::Refused(err) => (0, refused(err)),
                Answer::Expired => (EXPIRED, Vec::new()),
                Answer::Lost => return Ok(()),
            },
            PING => (0, Vec::new()),
            _ => (reads(), Vec::new()),
        };
        let head = [&request[..4], &1_i64.to_be_bytes(), &err.to_be_bytes()].concat();
        send(stream, &[head, body].concat())?;
    }
}

/// The results of a transaction that has made a node.
fn made(path: &str) -> Vec<u8> {
    let length = u32::try_from(path.len()).unwrap().to_be_bytes();
    [result(CREATE, 0), length.to_vec(), path.as_bytes().to_vec(), result(FAILED, 1)].concat()
}

/// The results of a transaction whose first operation has failed.
fn refused(err: i32) -> Vec<u8> {
    [result(FAILED, 0), err.to_be_bytes().to_vec(), result(FAILED, 1)].concat()
}

/// The head of one operation's result, or after the last one.
fn result(kind: i32, done: u8) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &[done], &0_i32.to_be_bytes()].concat()
}

fn frame(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut frame = vec![0; u32::from_be_bytes(length).try_into().unwrap()];
    stream.read_exact(&mut frame)?;
    Ok(frame)
}

fn send(stream: &mut TcpStream, frame: &[u8]) -> io::Result<()> {
    let length = u32::try_from(frame.len()).unwrap();
    stream.write_all(&[&length.to_be_bytes()[..], frame].concat())
}
