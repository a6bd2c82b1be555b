//! A member that carries out one of two requests which are sent together, and refuses the other.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use glock_hazelcast::{Fault, HazelcastClient, HazelcastLock, Lock, LockId};
use glock_testing::process::eventually;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const TTL: Duration = Duration::from_mins(1);
const AUTHENTICATION: i32 = 0x0000_0100;
const TRY_LOCK: i32 = 0x0001_1100;
const UNLOCK: i32 = 0x0001_1300;
const GET: i32 = 0x0001_0200;
/// The member's error for a request that it cannot carry out right now, and for an owner that has no lock.
const RETRYABLE: i32 = 46;
const NOT_OWNER: i32 = 26;
const FINAL: u16 = 0xe000;

/// A frame of these flags.
fn frame(flags: u16, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(6 + content.len()).unwrap();
    [&length.to_le_bytes()[..], &flags.to_le_bytes(), content].concat()
}

/// The first frame of a reply, with its parameters of fixed size.
fn reply(flags: u16, kind: i32, correlation: i64, fixed: &[u8]) -> Vec<u8> {
    frame(flags, &[&kind.to_le_bytes()[..], &correlation.to_le_bytes(), &[0], fixed].concat())
}

fn error(correlation: i64, code: i32) -> Vec<u8> {
    let begin = || frame(0x1000, &[]);
    let rest = [frame(0, &code.to_le_bytes()), frame(0, b"java.lang.X"), frame(0x0400, &[])];
    let ends = [begin(), frame(0x0800, &[]), frame(0x0800, &[]), frame(0x2800, &[])];
    let first = reply(0xc000, 0, correlation, &[]);
    [first, begin(), begin(), rest.concat(), ends.concat()].concat()
}

fn login(correlation: i64) -> Vec<u8> {
    let uuid = |byte: u8| [&[0][..], &[byte; 16]].concat();
    let fixed = [&[0][..], &uuid(1), &[1], &271_i32.to_le_bytes(), &uuid(2), &[0]].concat();
    reply(FINAL, AUTHENTICATION + 1, correlation, &fixed)
}

/// The kind and the correlation id of the next request.
async fn request(stream: &mut TcpStream) -> Option<(i32, i64)> {
    let mut found = None;
    loop {
        let mut header = [0; 6];
        stream.read_exact(&mut header).await.ok()?;
        let length = u32::from_le_bytes(*header.first_chunk().unwrap());
        let mut content = vec![0; usize::try_from(length).unwrap() - 6];
        stream.read_exact(&mut content).await.ok()?;
        let ids = || {
            let kind = i32::from_le_bytes(*content.first_chunk().unwrap());
            (kind, i64::from_le_bytes(*content[4..].first_chunk().unwrap()))
        };
        let (kind, correlation) = *found.get_or_insert_with(ids);
        if header[5] & 0x20 != 0 {
            return Some((kind, correlation));
        }
    }
}

/// Grants a lock to every client, and refuses to read its record.
async fn serve(mut stream: TcpStream, locked: Arc<Mutex<bool>>) -> Option<()> {
    stream.read_exact(&mut [0; 3]).await.ok()?;
    loop {
        let (kind, correlation) = request(&mut stream).await?;
        let reply = match kind {
            AUTHENTICATION => login(correlation),
            TRY_LOCK => {
                *locked.lock().unwrap() = true;
                reply(FINAL, TRY_LOCK + 1, correlation, &[1])
            }
            UNLOCK if std::mem::take(&mut *locked.lock().unwrap()) => {
                reply(FINAL, UNLOCK + 1, correlation, &[])
            }
            UNLOCK => error(correlation, NOT_OWNER),
            GET => error(correlation, RETRYABLE),
            // The members' clock, and pings.
            kind => reply(FINAL, kind + 1, correlation, &[1; 8]),
        };
        stream.write_all(&reply).await.ok()?;
    }
}

#[tokio::test]
async fn a_lock_that_was_granted_beside_a_refused_request_is_undone() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let locked = Arc::new(Mutex::new(false));
    let member = tokio::spawn({
        let locked = Arc::clone(&locked);
        async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, Arc::clone(&locked)));
            }
        }
    });
    let lock = HazelcastLock::new(HazelcastClient::new([address]).unwrap());
    let err = lock.acquire(&LockId::new("x").unwrap(), TTL).await.unwrap_err();
    assert!(matches!(err.fault(), Some(Fault::Unknown | Fault::Unavailable)), "{err:?}");
    eventually("the lock is undone", TTL, async || !*locked.lock().unwrap()).await;
    member.abort();
}
