//! `Admin`: sends requests to the agent itself, past the lock, over connections of its own.

use std::{
    collections::HashSet,
    fmt::Write,
    net::{SocketAddr, ToSocketAddrs},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use glock_consul::{ConsulClient, ConsulClientBuilder, ConsulLock, LockConfig, LockId};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The agent at `http://HOST:PORT/?token=SECRET`; the token may be left out.
#[derive(Debug, Clone)]
pub(crate) struct Admin {
    pub(crate) addr: SocketAddr,
    pub(crate) token: String,
    /// What the servers' `session_ttl_min` is.
    pub(crate) ttl_min: Duration,
}

impl Admin {
    /// Reaches the agent, and panics if it cannot.
    pub(crate) async fn open(url: &str) -> Self {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let host = base.trim_start_matches("http://").trim_end_matches('/');
        let addr = host.to_socket_addrs().expect("http://HOST:PORT").next().expect("an address");
        let token = query.trim_start_matches("token=").to_owned();
        let mut admin = Self { addr, token, ttl_min: Duration::from_secs(10) };
        let agent: Value = admin.json("GET", "agent/self", "").await;
        let ttl_min = agent["DebugConfig"]["SessionTTLMin"].as_str().unwrap_or("0s");
        let secs: u64 = ttl_min.trim_end_matches('s').parse().expect("whole seconds");
        if secs > 0 {
            admin.ttl_min = Duration::from_secs(secs);
        }
        admin
    }

    pub(crate) fn client(&self, server: SocketAddr) -> ConsulClientBuilder {
        let client = ConsulClient::builder(format!("http://{server}"));
        if self.token.is_empty() { client } else { client.token(&self.token) }
    }

    pub(crate) fn lock(&self, client: ConsulClientBuilder, config: LockConfig) -> ConsulLock {
        let lock = ConsulLock::new(client.build().unwrap()).with_config(config).unwrap();
        lock.with_session_ttl_min(self.ttl_min).unwrap()
    }

    /// A request's status and body.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.addr).await.expect("the agent is out of reach");
        let (token, len) = (&self.token, body.len());
        // HTTP/1.0: the reply comes in one piece and ends with the connection.
        let request = format!(
            "{method} /v1/{path} HTTP/1.0\r\nX-Consul-Token: {token}\r\nContent-Length: {len}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.unwrap();
        let (head, body) = reply.split_once("\r\n\r\n").expect("an HTTP reply");
        let status = head.split(' ').nth(1).expect("a status").parse().unwrap();
        (status, body.to_owned())
    }

    pub(crate) async fn json(&self, method: &str, path: &str, body: &str) -> Value {
        let (status, text) = self.ask(method, path, body).await;
        match status {
            200 => serde_json::from_str(&text).unwrap(),
            404 => Value::Array(Vec::new()),
            _ => panic!("{method} {path}: {status} {text}"),
        }
    }

    /// The keys below `prefix` that a session has.
    pub(crate) async fn held(&self, prefix: &str) -> Vec<Value> {
        let keys =
            self.json("GET", &format!("kv/{}?recurse&consistent", escaped(prefix)), "").await;
        let keys = keys.as_array().unwrap().clone();
        keys.into_iter().filter(|key| key["Session"].is_string()).collect()
    }

    /// The keys of locks below `prefix` that somebody holds.
    pub(crate) async fn holds(&self, prefix: &str) -> Vec<Value> {
        let is_lock = |entry: &Value| !entry["Key"].as_str().unwrap().contains("/.");
        let is_hold = |entry: &Value| is_lock(entry) && record(entry)["turn"].is_null();
        self.held(prefix).await.into_iter().filter(is_hold).collect()
    }

    /// The owner token of the hold on `key`: if it was transferred since its grant, its value has it.
    pub(crate) async fn owner(&self, key: &str) -> Option<String> {
        let found = self.entry(key).await?;
        let record = record(&found);
        let granted = record["was"].as_str().map(ToOwned::to_owned);
        granted.or_else(|| Some(format!("{}.{}", found["Session"].as_str()?, found["ModifyIndex"])))
    }

    /// The session that has `key`.
    pub(crate) async fn session_of(&self, key: &str) -> Option<String> {
        self.entry(key).await?["Session"].as_str().map(ToOwned::to_owned)
    }

    async fn entry(&self, key: &str) -> Option<Value> {
        self.holds(key).await.into_iter().find(|entry| entry["Key"] == key)
    }

    /// The sessions whose name begins with `start`.
    pub(crate) async fn sessions(&self, start: &str) -> Vec<String> {
        let sessions = self.json("GET", "session/list?consistent", "").await;
        let ours = |session: &&Value| session["Name"].as_str().unwrap().starts_with(start);
        let id = |session: &Value| session["ID"].as_str().unwrap().to_owned();
        sessions.as_array().unwrap().iter().filter(ours).map(id).collect()
    }

    /// Held keys, and sessions but for one spare session a client and TTL, which is there to stay for
    /// a while.
    pub(crate) async fn residue(&self, namespace: &str) -> usize {
        let sessions = self.json("GET", "session/list?consistent", "").await;
        let held = self.held(&format!("{namespace}/")).await;
        let holds = |session: &Value| held.iter().any(|entry| entry["Session"] == session["ID"]);
        let (mut left, mut spares) = (2 * held.len(), HashSet::new());
        for session in sessions.as_array().unwrap() {
            let name = session["Name"].as_str().unwrap();
            // A client's sessions are numbered.
            let client = name.rsplit_once('.').map_or(name, |(client, _)| client);
            let ours = name.starts_with(&format!("{namespace} ")) && !holds(session);
            if ours && !spares.insert((client.to_owned(), session["TTL"].to_string())) {
                left += 1;
            }
        }
        left
    }

    pub(crate) async fn delete(&self, key: &str) {
        self.delete_path(&format!("kv/{}", escaped(key))).await;
    }

    /// Deletes all keys that begin with `prefix`.
    pub(crate) async fn delete_tree(&self, prefix: &str) {
        self.delete_path(&format!("kv/{}?recurse", escaped(prefix))).await;
    }

    async fn delete_path(&self, path: &str) {
        let (status, text) = self.ask("DELETE", path, "").await;
        assert_eq!(status, 200, "{text}");
    }
}

/// What the value of a key says.
fn record(entry: &Value) -> Value {
    let value = entry["Value"].as_str().map(|value| STANDARD.decode(value).unwrap());
    value.map_or(Value::Null, |value| serde_json::from_slice(&value).unwrap_or_default())
}

/// What the keys of a lock's waiters begin with.
pub(crate) fn queue(namespace: &str, id: &LockId) -> String {
    let key = key(namespace, id);
    format!("{namespace}/.queue/{}/", &key[namespace.len() + 1..])
}

/// The key of a lock, computed in another way than the crate does.
pub(crate) fn key(namespace: &str, id: &LockId) -> String {
    let mut key = format!("{namespace}/");
    for (at, byte) in id.as_str().bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || b"-_.:~@".contains(&byte);
        if plain && !(at == 0 && byte == b'.') {
            key.push(byte.into());
        } else {
            write!(key, "%{byte:02X}").unwrap();
        }
    }
    key
}

/// Every byte that is no letter or digit, escaped.
fn escaped(key: &str) -> String {
    let byte = |byte: u8| match byte {
        b'/' => "/".to_owned(),
        _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    key.bytes().map(byte).collect()
}
