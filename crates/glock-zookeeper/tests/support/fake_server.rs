//! A server of a few lines, for what no real one does on demand.

use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::Duration,
};

/// The reply to a transaction.
#[derive(Clone, Copy)]
pub(crate) enum Reply {
    /// It has created a node, without a stat: as servers before 3.7.2, 3.8.2 and 3.9.0 reply.
    Created,
    /// Its first operation fails with this code.
    Refused(i32),
    /// The session is over.
    Expired,
    /// The connection is lost before the reply.
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
/// Long: no test waits for a ping or a heartbeat.
const SESSION: Duration = Duration::from_secs(80);

/// Starts a server that opens every session, and replies to each transaction as `reply` says. Returns
/// its address. Whatever else is requested is not there.
pub(crate) fn start(reply: impl FnMut(&[u8]) -> Reply + Send + 'static) -> String {
    start_with_reads(|| NO_NODE, reply)
}

/// The same, where all other requests fail with the code that `reads` returns.
pub(crate) fn start_with_reads(
    mut reads: impl FnMut() -> i32 + Send + 'static,
    mut reply: impl FnMut(&[u8]) -> Reply + Send + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            // The client may disconnect at any time.
            let _ = serve(&mut stream.unwrap(), &mut reads, &mut reply);
        }
    });
    address
}

fn serve(
    stream: &mut TcpStream,
    reads: &mut impl FnMut() -> i32,
    reply: &mut impl FnMut(&[u8]) -> Reply,
) -> io::Result<()> {
    frame(stream)?;
    let timeout = i32::try_from(SESSION.as_millis()).unwrap();
    let opened = [&0_i32.to_be_bytes()[..], &timeout.to_be_bytes(), &1_i64.to_be_bytes()].concat();
    send(stream, &[&opened[..], &16_i32.to_be_bytes(), &[7; 16], &[0]].concat())?;
    loop {
        let request = frame(stream)?;
        let code = i32::from_be_bytes(request[4..8].try_into().unwrap());
        let (err, body) = match code {
            MULTI => match reply(&request[8..]) {
                Reply::Created => (0, created("/x")),
                Reply::Refused(err) => (0, refused(err)),
                Reply::Expired => (EXPIRED, Vec::new()),
                Reply::Lost => return Ok(()),
            },
            PING => (0, Vec::new()),
            _ => (reads(), Vec::new()),
        };
        let head = [&request[..4], &1_i64.to_be_bytes(), &err.to_be_bytes()].concat();
        send(stream, &[head, body].concat())?;
    }
}

/// The results of a transaction that has created a node.
fn created(path: &str) -> Vec<u8> {
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
