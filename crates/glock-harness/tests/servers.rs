//! A real server does what the suites count on: it answers, checks passwords, freezes, dies and comes back.
//!
//! `cargo xtask test` runs this for each server that it knows, before the suites of the stores.
#![allow(clippy::unwrap_used, reason = "what fails here is a failed test")]

use std::{process::Stdio, time::Duration};

use glock_harness::server::{Command, PrivateServer, Source};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command as Process,
    time::timeout,
};

/// MongoDB's `{hello: 1, $db: "admin"}`, as an `OP_MSG`.
const HELLO: &[u8] = b"\x34\0\0\0\x01\0\0\0\0\0\0\0\xdd\x07\0\0\0\0\0\0\0\
    \x1f\0\0\0\x10hello\0\x01\0\0\0\x02$db\0\x06\0\0\0admin\0\0";

const WHY: &str = "needs a server: run `cargo xtask test`";

/// Far longer than any of these servers takes to answer.
const SILENCE: Duration = Duration::from_millis(500);
const ANSWER_MAX: Duration = Duration::from_secs(10);

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask test`"]
async fn a_server_freezes_dies_and_comes_back_at_the_same_address() {
    let mut server = PrivateServer::start().await.expect(WHY);
    assert!(answers(&server).await);

    server.order(Command::Pause).await.unwrap();
    assert!(!answers(&server).await, "a frozen server answers");
    server.order(Command::Resume).await.unwrap();
    assert!(answers(&server).await);

    for end in [Command::Kill, Command::Stop] {
        server.order(end).await.unwrap();
        assert!(TcpStream::connect(address(&server)).await.is_err(), "a server survives {end}");
        server.order(Command::Start).await.unwrap();
        assert!(answers(&server).await);
    }
    assert!(server.order(Command::Start).await.unwrap_err().to_string().contains("runs already"));
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask test`"]
async fn a_server_refuses_who_may_not() {
    let server = PrivateServer::start().await.expect(WHY);
    match store(&server) {
        Store::Redis => refused_by_redis(&server).await,
        Store::Postgres => {
            assert!(ask_postgres(&server).await.contains("SCRAM-SHA-256"));
            query_postgres(&server).await;
        }
        Store::Consul => {
            let refused = ask_http(&server, "/v1/agent/self", "wrong").await;
            assert!(refused.starts_with("HTTP/1.0 403"), "{refused}");
            let (_, token) = server.url.split_once("?token=").unwrap();
            let reply = ask_http(&server, "/v1/agent/self", token).await;
            assert!(reply.starts_with("HTTP/1.0 200"), "{reply}");
        }
        Store::Hazelcast => assert!(!greeted_by_hazelcast(&server, b"dew").await, "any cluster"),
        // These let everybody in until their tests say otherwise.
        Store::DynamoDb | Store::Etcd | Store::MongoDb | Store::ZooKeeper => {
            assert!(answers(&server).await);
        }
    }
}

async fn refused_by_redis(server: &PrivateServer) {
    let answer = ask_redis(server, "ACL SETUSER reader on >secret ~* +@read").await;
    assert!(answer.starts_with("+OK"), "{answer}");
    assert!(ask_redis(server, "AUTH reader wrong").await.starts_with("-WRONGPASS"));
    let answer = ask_redis(server, "AUTH reader secret\r\nSET a b").await;
    assert!(answer.contains("-NOPERM"), "{answer}");
    assert_eq!(ask_redis(server, "SET a b\r\nGET a").await, "+OK\r\n$1\r\nb\r\n");
}

/// What kind of server it is.
enum Store {
    Redis,
    Postgres,
    Etcd,
    Consul,
    DynamoDb,
    Hazelcast,
    MongoDb,
    ZooKeeper,
}

fn store(server: &PrivateServer) -> Store {
    let product = glock_harness::server::Product::named(&server.name).unwrap();
    match product.store {
        "redis" => Store::Redis,
        "postgres" => Store::Postgres,
        "etcd" => Store::Etcd,
        "consul" => Store::Consul,
        "dynamodb" => Store::DynamoDb,
        "hazelcast" => Store::Hazelcast,
        "mongodb" => Store::MongoDb,
        "zookeeper" => Store::ZooKeeper,
        other => panic!("this test does not know {other}"),
    }
}

/// Whether the server answers a new connection.
async fn answers(server: &PrivateServer) -> bool {
    let answer = async {
        match store(server) {
            Store::Redis => ask_redis(server, "PING").await.starts_with("+PONG"),
            Store::Postgres => ask_postgres(server).await.starts_with('R'),
            Store::Etcd => ask_http(server, "/health", "").await.contains("\"true\""),
            Store::Consul => ask_http(server, "/v1/status/leader", "").await.contains("127.0.0.1:"),
            Store::DynamoDb => ask_http(server, "/", "").await.contains("com.amazonaws.dynamodb"),
            Store::Hazelcast => greeted_by_hazelcast(server, b"dev").await,
            Store::MongoDb => ask_mongodb(server).await.contains("isWritablePrimary"),
            Store::ZooKeeper => ask(server, b"srvr", usize::MAX).await.contains("Mode: "),
        }
    };
    timeout(SILENCE, answer).await.unwrap_or(false)
}

fn address(server: &PrivateServer) -> &str {
    let rest = server.url.split_once("://").map_or(&*server.url, |(_, rest)| rest);
    let host = rest.rsplit('@').next().unwrap();
    host.split('/').next().unwrap()
}

/// Everything that comes back, up to the end of the connection.
async fn ask_redis(server: &PrivateServer, lines: &str) -> String {
    let answer = ask(server, format!("{lines}\r\nQUIT\r\n").as_bytes(), usize::MAX).await;
    answer.strip_suffix("+OK\r\n").unwrap_or(&answer).to_owned()
}

/// What a server says to one who wants to log in.
async fn ask_postgres(server: &PrivateServer) -> String {
    let body = b"\0\x03\0\0user\0postgres\0database\0postgres\0\0";
    let length = u32::try_from(body.len() + 4).unwrap();
    ask(server, &[&length.to_be_bytes()[..], body].concat(), 1).await
}

/// The whole reply: it states its length first.
async fn ask_mongodb(server: &PrivateServer) -> String {
    let answer = async {
        let mut stream = TcpStream::connect(address(server)).await.unwrap();
        stream.write_all(HELLO).await.unwrap();
        let length = stream.read_i32_le().await.unwrap();
        let mut answer = vec![0; usize::try_from(length - 4).unwrap()];
        stream.read_exact(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    };
    timeout(ANSWER_MAX, answer).await.expect("the server does not answer")
}

/// HTTP/1.0: the answer ends with the connection. A token is Consul's.
async fn ask_http(server: &PrivateServer, path: &str, token: &str) -> String {
    let request = format!("GET {path} HTTP/1.0\r\nX-Consul-Token: {token}\r\n\r\n");
    ask(server, request.as_bytes(), usize::MAX).await
}

/// Whether a member lets a client of that cluster in.
async fn greeted_by_hazelcast(server: &PrivateServer, cluster: &[u8; 3]) -> bool {
    let login = b"CP2\
        \x28\0\0\0\0\xc0\0\x01\0\0\x01\0\0\0\0\0\0\0\xff\xff\xff\xff\
        \0\x77\x66\x55\x44\x33\x22\x11\0\xff\xee\xdd\xcc\xbb\xaa\x99\x88\x01";
    let rest = b"\x06\0\0\0\0\x04\x06\0\0\0\0\x04\x09\0\0\0\0\0RST\x0b\0\0\0\0\x005.4.0\
        \x0b\0\0\0\0\0glock\x06\0\0\0\0\x10\x06\0\0\0\0\x28";
    let request = [login, &b"\x09\0\0\0\0\0"[..], cluster, rest].concat();
    let mut stream = TcpStream::connect(address(server)).await.unwrap();
    stream.write_all(&request).await.unwrap();
    let mut reply = [0; 20];
    stream.read_exact(&mut reply).await.is_ok() && reply[19] == 0
}

async fn ask(server: &PrivateServer, request: &[u8], enough: usize) -> String {
    let answer = async {
        let mut stream = TcpStream::connect(address(server)).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        while answer.len() < enough && stream.read_buf(&mut answer).await.unwrap_or(0) > 0 {}
        String::from_utf8_lossy(&answer).into_owned()
    };
    timeout(ANSWER_MAX, answer).await.expect("the server does not answer")
}

/// By the client that comes with a local server; a container's is out of reach.
async fn query_postgres(server: &PrivateServer) {
    let source: Source = std::env::var("GLOCK_SERVERS").unwrap().parse().unwrap();
    let Source::Native(dir) = source else { return };
    let program = dir.join(&server.name).join("bin/psql");
    let query = async |url: &str| {
        let mut psql = Process::new(&program);
        psql.args(["--no-psqlrc", "--tuples-only", "--no-align", "--command", "select 6 * 7", url]);
        psql.stdin(Stdio::null()).output().await.unwrap()
    };
    let answer = query(&server.url).await;
    assert_eq!(String::from_utf8_lossy(&answer.stdout).trim(), "42");
    let (start, rest) = server.url.rsplit_once('@').unwrap();
    let refused = query(&format!("{start}x@{rest}")).await;
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(text.contains("password authentication failed"), "{text}");
}
