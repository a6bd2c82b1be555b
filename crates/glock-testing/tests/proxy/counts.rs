//! What is counted of requests that overlap.

use std::time::Duration;

use glock_testing::proxy::{Framing, Proxy};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
};

use crate::{
    server::{Client, until},
    start,
};

/// On two connections at a time, and then one after the other, and after one was given up.
#[tokio::test]
async fn what_is_on_its_way_together_is_one_in_a_row() {
    let (_server, proxy) = start().await;
    proxy.delay(Duration::from_millis(50));
    let mut clients = [Client::connect(proxy.addr()).await, Client::connect(proxy.addr()).await];
    for client in &mut clients {
        client.say("together\n").await;
    }
    for client in &mut clients {
        client.receives("ok together\n").await;
    }
    assert_eq!((proxy.counts().in_a_row, proxy.round_trips()), (1, 2));
    for client in &mut clients {
        client.asks("alone").await;
    }
    assert_eq!((proxy.counts().in_a_row, proxy.round_trips()), (3, 4));
    let [mut gone, _next] = clients;
    proxy.hold_replies();
    gone.say("for ever\n").await;
    until("it waits", || proxy.requests() == 5).await;
    drop(gone);
    proxy.cut();
    proxy.pass();
    let mut next = Client::connect(proxy.addr()).await;
    until("it waits no more", || proxy.connections() == 1).await;
    next.asks("alone").await;
    assert_eq!(proxy.counts().in_a_row, 5);
}

/// ZooKeeper's pings come when they will: neither they nor their replies are a turn, and none takes
/// a cut that is meant for a request.
#[tokio::test]
async fn pings_are_nobody_s_turn() {
    const PING: &[u8] = b"\0\0\0\x08\xff\xff\xff\xfe\0\0\0\x0b";
    const REQUEST: &[u8] = b"\0\0\0\x08\0\0\0\x07\0\0\0\x04";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (mut reads, mut writes) = stream.split();
        copy(&mut reads, &mut writes).await
    });
    let proxy = Proxy::start_framed(addr, Framing::Lengths).await.unwrap();
    let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
    for (said, counted) in [(PING, 0), (REQUEST, 1), (PING, 1), (REQUEST, 2)] {
        client.write_all(said).await.unwrap();
        client.read_exact(&mut [0; 12]).await.unwrap();
        let counts = proxy.counts();
        let all = [counts.asked, counts.requests, counts.in_a_row, counts.replies];
        assert_eq!(all, [counted; 4], "{counts:?}");
    }
    assert_eq!((proxy.bytes_up(), proxy.bytes_down()), (48, 48));
    proxy.cut_before_request();
    client.write_all(PING).await.unwrap();
    client.read_exact(&mut [0; 12]).await.unwrap();
    assert!(proxy.is_armed());
    client.write_all(REQUEST).await.unwrap();
    assert!(client.read_exact(&mut [0; 12]).await.is_err() && !proxy.is_armed());
}
