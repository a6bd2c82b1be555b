//! Every fault of the proxy, seen by the client and by the server behind it.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

mod counts;
mod cuts;
mod mute;
mod server;

use std::time::Duration;

use glock_testing::proxy::{Counts, Proxy};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::server::{Client, End, Server, until};

async fn start() -> (Server, Proxy) {
    let server = Server::start().await;
    let proxy = Proxy::start(server.addr).await.unwrap();
    (server, proxy)
}

#[tokio::test]
async fn without_a_fault_bytes_pass_both_ways_and_are_counted() {
    let (server, proxy) = start().await;
    let mut client = Client::connect(proxy.addr()).await;
    client.asks("one").await;
    client.asks("two").await;
    assert_eq!(server.received(), "one\ntwo\n");
    let counts = Counts {
        accepted: 1,
        resets: 0,
        late: 0,
        requests: 2,
        asked: 2,
        in_a_row: 2,
        replies: 2,
        round_trips: 2,
        bytes_up: 8,
        bytes_down: 14,
    };
    assert_eq!(proxy.counts(), counts);
    client.asks("three").await;
    let since = proxy.counts() - counts;
    assert_eq!((since.requests, since.round_trips, since.bytes_up), (1, 1, 6));
    proxy.reset_counters();
    assert_eq!((proxy.counts(), proxy.connections()), (Counts::default(), 1));
}

#[tokio::test]
async fn a_turn_is_counted_once_however_it_is_cut_into_pieces() {
    let (server, proxy) = start().await;
    let mut client = Client::connect(proxy.addr()).await;
    client.say("on").await;
    until("the first half is there", || server.received() == "on").await;
    client.say("e\ntwo\n").await;
    client.receives("ok one\nok two\n").await;
    assert_eq!((proxy.requests(), proxy.replies(), proxy.round_trips()), (1, 1, 1));
}

#[tokio::test]
async fn what_the_server_says_unasked_is_no_round_trip() {
    let (server, proxy) = start().await;
    let mut listener = Client::connect(proxy.addr()).await;
    let mut asker = Client::connect(proxy.addr()).await;
    asker.asks("a").await;
    listener.asks("subscribe").await;
    for _ in 0..3 {
        server.push("news\n");
        listener.receives("news\n").await;
        asker.receives("news\n").await;
    }
    asker.asks("b").await;
    assert_eq!((proxy.requests(), proxy.round_trips()), (3, 3));
    assert_eq!((proxy.accepted(), proxy.connections()), (2, 2));
}

#[tokio::test]
async fn a_greeting_is_a_reply_but_no_round_trip() {
    let (server, proxy) = start().await;
    let mut client = Client::connect(proxy.addr()).await;
    until("it is joined", || proxy.connections() == 1).await;
    tokio::time::sleep(server::SILENCE).await;
    server.push("hello\n");
    client.receives("hello\n").await;
    assert_eq!((proxy.requests(), proxy.replies(), proxy.round_trips()), (0, 1, 0));
}

#[tokio::test]
async fn a_delay_lengthens_a_round_trip_twice_and_does_not_throttle() {
    let (_server, proxy) = start().await;
    let mut client = Client::connect(proxy.addr()).await;
    client.asks("warm").await;
    let delay = Duration::from_millis(40);
    proxy.delay(delay);
    let start = Instant::now();
    for _ in 0..5 {
        client.say("x\n").await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    client.receives(&"ok x\n".repeat(5)).await;
    let took = start.elapsed();
    assert!(took >= 2 * delay, "came back too soon: {took:?}");
    // One after the other, five would take 400 ms.
    assert!(took < 8 * delay, "late by more than the delay: {took:?}");

    proxy.delay(Duration::from_mins(1));
    client.say("late\n").await;
    client.hears_nothing().await;
    proxy.pass();
    client.receives("ok late\n").await;
}

#[tokio::test]
async fn held_replies_come_in_order_once_they_may_pass() {
    let (server, proxy) = start().await;
    let mut client = Client::connect(proxy.addr()).await;
    client.asks("warm").await;
    proxy.hold_replies();
    client.say("a\n").await;
    until("the server has answered", || proxy.replies() == 2).await;
    client.say("b\n").await;
    client.hears_nothing().await;
    assert_eq!(server.received(), "warm\na\nb\n", "requests pass");
    proxy.pass();
    client.receives("ok a\nok b\n").await;
    client.asks("after").await;
}

#[tokio::test]
async fn dropped_replies_belong_to_requests_that_were_done() {
    let (server, proxy) = start().await;
    let mut client = Client::connect(proxy.addr()).await;
    client.asks("warm").await;
    proxy.drop_replies();
    client.say("a\n").await;
    client.hears_nothing().await;
    assert_eq!(server.received(), "warm\na\n");
    assert_eq!(proxy.counts().bytes_down, 13, "the answer was given");

    // A gap never heals: nothing that comes later may be taken for the lost answer.
    proxy.pass();
    assert_eq!(client.ends().await, End::Reset);
    Client::connect(proxy.addr()).await.asks("again").await;
}

#[tokio::test]
async fn dropping_replies_drops_those_held_too() {
    let (_server, proxy) = start().await;
    let mut client = Client::connect(proxy.addr()).await;
    proxy.hold_replies();
    client.say("a\n").await;
    until("the server has answered", || proxy.replies() == 1).await;
    proxy.drop_replies();
    client.hears_nothing().await;
    proxy.pass();
    assert_eq!(client.ends().await, End::Reset);
}

#[tokio::test]
async fn dropped_requests_never_reach_the_server() {
    let (server, proxy) = start().await;
    let mut client = Client::connect(proxy.addr()).await;
    client.asks("warm").await;
    proxy.drop_requests();
    client.say("a\n").await;
    client.hears_nothing().await;
    assert_eq!(server.received(), "warm\n");
    assert_eq!((proxy.requests(), proxy.round_trips()), (2, 1));

    drop(client);
    tokio::time::sleep(server::SILENCE).await;
    assert_eq!(server.ends(), [], "the end is lost too");
    proxy.pass();
    until("the server sees the reset", || server.ends() == [End::Reset]).await;
}

#[tokio::test]
async fn a_stalled_proxy_moves_nothing_and_loses_nothing() {
    let (server, proxy) = start().await;
    let mut client = Client::connect(proxy.addr()).await;
    client.asks("warm").await;
    proxy.stall();
    client.say("a\n").await;
    server.push("news\n");
    client.hears_nothing().await;
    let mut other = Client::connect(proxy.addr()).await;
    other.say("b\n").await;
    other.hears_nothing().await;
    assert_eq!((server.received().as_str(), server.ends().len()), ("warm\n", 0));
    assert_eq!((proxy.connections(), proxy.requests()), (2, 1));
    proxy.pass();
    other.receives("ok b\n").await;
    client.receives("news\nok a\n").await;
}

#[tokio::test]
async fn a_refused_connection_is_reset_and_upstream_never_hears_of_it() {
    let (server, proxy) = start().await;
    let mut old = Client::connect(proxy.addr()).await;
    old.asks("old").await;
    proxy.refuse();
    assert_eq!(Client::connect(proxy.addr()).await.ends().await, End::Reset);
    old.asks("still").await;
    assert_eq!((proxy.accepted(), server.ends().len()), (1, 0));
    proxy.accept();
    Client::connect(proxy.addr()).await.asks("new").await;
}

#[tokio::test]
async fn without_an_upstream_a_connection_is_reset() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = Proxy::start(unused).await.unwrap();
    assert_eq!(Client::connect(proxy.addr()).await.ends().await, End::Reset);
    assert_eq!((proxy.accepted(), proxy.connections()), (0, 0));
}

#[tokio::test]
async fn a_client_that_goes_is_gone_upstream() {
    let (server, proxy) = start().await;
    let mut client = Client::connect(proxy.addr()).await;
    client.asks("hello").await;
    drop(client);
    until("upstream sees the end", || server.ends() == [End::Closed]).await;
    until("it is off the count", || proxy.connections() == 0).await;
    assert_eq!(proxy.counts().resets, 0);
}

#[tokio::test]
async fn large_messages_pass_whole() {
    let (server, proxy) = start().await;
    let mut client = Client::connect(proxy.addr()).await;
    let line = "x".repeat(1_000_000);
    client.asks(&line).await;
    assert_eq!(server.received().len(), 1_000_001);
    assert_eq!(
        (proxy.round_trips(), proxy.bytes_up(), proxy.bytes_down()),
        (1, 1_000_001, 1_000_004)
    );
}

#[tokio::test]
async fn a_dropped_proxy_leaves_nothing_open() {
    let (server, proxy) = start().await;
    let addr = proxy.addr();
    let mut clients = Vec::new();
    for _ in 0..10 {
        let mut client = Client::connect(addr).await;
        client.asks("hello").await;
        clients.push(client);
    }
    proxy.stall();
    drop(proxy);
    for client in &mut clients {
        client.ends().await;
    }
    until("upstream sees every end", || server.ends().len() == 10).await;
    assert!(TcpStream::connect(addr).await.is_err(), "the port is still open");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_proxy_that_keeps_bytes_back_does_not_spin() {
    let (server, proxy) = start().await;
    let mut client = Client::connect(proxy.addr()).await;
    client.asks("warm").await;
    let faults: [fn(&Proxy); 5] = [
        Proxy::hold_replies,
        |proxy| proxy.delay(Duration::from_mins(1)),
        Proxy::stall,
        Proxy::drop_replies,
        Proxy::drop_requests,
    ];
    for fault in faults {
        fault(&proxy);
        client.say("x\n").await;
        server.push("news\n");
        // The runtime of this test is this thread.
        let before = processor_time();
        tokio::time::sleep(Duration::from_millis(200)).await;
        let spent = processor_time().saturating_sub(before);
        assert!(spent < Duration::from_millis(50), "{spent:?} of 200 ms spent on waiting");
    }
}

#[cfg(target_os = "linux")]
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}
