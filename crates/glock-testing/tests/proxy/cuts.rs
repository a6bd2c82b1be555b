//! Connections that are cut, at the place asked for and nowhere else.

use crate::server::{Client, End, SILENCE, until};
use crate::start;

#[tokio::test]
async fn a_cut_resets_open_connections_and_spares_later_ones() {
    let (server, proxy) = start().await;
    let mut clients = [Client::connect(proxy.addr()).await, Client::connect(proxy.addr()).await];
    for client in &mut clients {
        client.asks("x").await;
    }
    proxy.cut();
    let mut later = Client::connect(proxy.addr()).await;
    later.asks("later").await;
    for client in &mut clients {
        assert_eq!(client.ends().await, End::Reset);
    }
    until("upstream sees it", || server.ends() == [End::Reset; 2]).await;
    until("they are off the count", || proxy.connections() == 1).await;
    assert_eq!((proxy.accepted(), proxy.counts().resets), (3, 2));
}

#[tokio::test]
async fn a_cut_reaches_a_stalled_connection() {
    let (server, proxy) = start().await;
    let mut client = Client::connect(proxy.addr()).await;
    client.asks("x").await;
    proxy.stall();
    client.say("y\n").await;
    proxy.cut();
    assert_eq!(client.ends().await, End::Reset);
    until("upstream sees it", || server.ends() == [End::Reset]).await;
    assert_eq!(server.received(), "x\n");
}

#[tokio::test]
async fn cut_before_a_request_nothing_of_it_reaches_upstream() {
    let (server, proxy) = start().await;
    let mut client = Client::connect(proxy.addr()).await;
    client.asks("warm").await;
    proxy.cut_before_request();
    assert!(proxy.is_armed());
    client.say("a\n").await;
    assert_eq!(client.ends().await, End::Reset);
    assert!(!proxy.is_armed());
    until("upstream sees the end", || server.ends() == [End::Reset]).await;
    assert_eq!(server.received(), "warm\n");

    // Once only.
    Client::connect(proxy.addr()).await.asks("b").await;
}

#[tokio::test]
async fn a_one_shot_cut_meets_the_connection_that_speaks_next_and_no_other() {
    let (server, proxy) = start().await;
    let mut first = Client::connect(proxy.addr()).await;
    let mut second = Client::connect(proxy.addr()).await;
    first.asks("first").await;
    second.asks("second").await;
    proxy.cut_before_request();
    second.say("a\n").await;
    assert_eq!(second.ends().await, End::Reset);
    first.asks("still").await;
    assert_eq!(server.received(), "first\nsecond\nstill\n");
}

#[tokio::test]
async fn a_late_request_reaches_upstream_when_its_client_is_long_gone() {
    let (server, proxy) = start().await;
    let mut client = Client::connect(proxy.addr()).await;
    client.asks("warm").await;
    proxy.cut_and_deliver_late(SILENCE * 2);
    client.say("a\n").await;
    assert_eq!(client.ends().await, End::Reset);
    until("it is off the count", || proxy.connections() == 0).await;
    Client::connect(proxy.addr()).await.asks("b").await;
    assert_eq!(server.received(), "warm\nb\n");
    until("upstream has answered", || proxy.counts().late == 1).await;
    assert_eq!(server.received(), "warm\nb\na\n");
    until("upstream sees the end", || server.ends().contains(&End::Reset)).await;
}

#[tokio::test]
async fn cut_inside_a_request_upstream_has_as_much_as_was_let_through() {
    for count in [0, 1, 3] {
        let (server, proxy) = start().await;
        let mut client = Client::connect(proxy.addr()).await;
        client.asks("warm").await;
        proxy.cut_inside_request(count);
        client.say("abcdef\n").await;
        assert_eq!(client.ends().await, End::Reset);
        until("upstream sees the end", || server.ends() == [End::Reset]).await;
        assert_eq!(server.received(), format!("warm\n{}", &"abcdef"[..count]));
    }
}

#[tokio::test]
async fn cut_inside_a_request_that_comes_in_pieces() {
    let (server, proxy) = start().await;
    let mut client = Client::connect(proxy.addr()).await;
    proxy.cut_inside_request(4);
    client.say("ab").await;
    until("the first piece is there", || server.received() == "ab").await;
    client.say("cdef\n").await;
    assert_eq!(client.ends().await, End::Reset);
    until("upstream sees the end", || server.ends() == [End::Reset]).await;
    assert_eq!(server.received(), "abcd");
}

#[tokio::test]
async fn a_request_shorter_than_the_place_to_cut_it_at_is_cut_at_its_reply() {
    let (server, proxy) = start().await;
    let mut client = Client::connect(proxy.addr()).await;
    proxy.cut_inside_request(100);
    client.say("a\n").await;
    assert_eq!(client.ends().await, End::Reset);
    assert_eq!((server.received().as_str(), proxy.round_trips()), ("a\n", 1));
}

#[tokio::test]
async fn cut_after_a_request_the_server_did_it_and_the_client_cannot_know() {
    let (server, proxy) = start().await;
    let mut client = Client::connect(proxy.addr()).await;
    client.asks("warm").await;
    proxy.cut_after_request();
    client.say("a\n").await;
    assert_eq!(client.ends().await, End::Reset);
    until("upstream sees the end", || server.ends() == [End::Reset]).await;
    assert_eq!(server.received(), "warm\na\n");
    assert_eq!((proxy.round_trips(), proxy.counts().bytes_down), (2, 13), "it was answered");
}

#[tokio::test]
async fn cut_inside_a_reply_the_client_has_as_much_as_was_let_through() {
    for count in [0, 1, 4] {
        let (server, proxy) = start().await;
        let mut client = Client::connect(proxy.addr()).await;
        client.asks("warm").await;
        proxy.cut_inside_reply(count);
        client.say("a\n").await;
        client.receives(&"ok a\n"[..count]).await;
        assert_eq!(client.ends().await, End::Reset);
        until("upstream sees the end", || server.ends() == [End::Reset]).await;
        assert_eq!(server.received(), "warm\na\n");
    }
}

#[tokio::test]
async fn a_reply_shorter_than_the_place_to_cut_it_at_is_cut_at_the_next_request() {
    let (server, proxy) = start().await;
    let mut client = Client::connect(proxy.addr()).await;
    proxy.cut_inside_reply(100);
    client.asks("a").await;
    client.say("b\n").await;
    assert_eq!(client.ends().await, End::Reset);
    assert_eq!(server.received(), "a\n");
}

#[tokio::test]
async fn late_bytes_before_a_cut_still_arrive() {
    let (server, proxy) = start().await;
    let mut client = Client::connect(proxy.addr()).await;
    client.asks("warm").await;
    proxy.delay(std::time::Duration::from_millis(30));
    proxy.cut_inside_request(2);
    client.say("abc").await;
    client.say("def\n").await;
    assert_eq!(client.ends().await, End::Reset);
    until("upstream sees the end", || server.ends() == [End::Reset]).await;
    assert_eq!(server.received(), "warm\nab");
}

#[tokio::test]
async fn passing_disarms_a_cut() {
    let (_server, proxy) = start().await;
    let mut client = Client::connect(proxy.addr()).await;
    proxy.cut_before_request();
    proxy.pass();
    assert!(!proxy.is_armed());
    client.asks("a").await;
}
