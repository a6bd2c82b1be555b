//! A lock on Consul beside hyper's pooled client sending the same transactions, on the agent that
//! `GLOCK_CONSUL_URL` names. With `--crowd`: how it passes on between many processes.

use std::{
    process::ExitCode,
    sync::{Arc, Mutex},
    time::Duration,
};

use glock_consul::{ConsulClient, ConsulLock, LockConfig};
use glock_harness::bench::{Raw, crowd};
use glock_testing::{fresh_namespace, url_from_env};
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, body::Bytes};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};

/// What an engineer would type: the same transactions, on sessions that are used again as well.
#[derive(Clone)]
struct ByHand {
    client: Client<HttpConnector, Full<Bytes>>,
    url: String,
    token: String,
    namespace: Arc<str>,
    sessions: Arc<Mutex<Vec<String>>>,
}

struct Grant {
    session: String,
    index: u64,
}

struct Reply {
    status: u16,
    index: u64,
    body: Bytes,
}

impl ByHand {
    fn new(url: &str, token: &str) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            url: url.into(),
            token: token.into(),
            namespace: fresh_namespace().into(),
            sessions: Arc::default(),
        }
    }

    async fn ask(&self, method: Method, path: &str, body: String) -> Reply {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}/v1/{path}", self.url))
            .header("x-consul-token", &self.token)
            .body(Full::new(Bytes::from(body)))
            .expect("a request");
        let response = self.client.request(request).await.expect("the agent is out of reach");
        let header = response.headers().get("x-consul-index");
        let index = header.map_or(0, |index| index.to_str().expect("text").parse().expect("index"));
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.expect("a reply").to_bytes();
        Reply { status, index, body }
    }

    async fn txn(&self, operations: Value) -> Value {
        let reply = self.ask(Method::PUT, "txn", operations.to_string()).await;
        assert_eq!(reply.status, 200, "{:?}", reply.body);
        serde_json::from_slice(&reply.body).expect("JSON")
    }

    async fn session(&self) -> String {
        let spare = self.sessions.lock().expect("no panic before").pop();
        if let Some(session) = spare {
            return session;
        }
        let wanted = json!({"TTL": "60s", "LockDelay": "0s", "Behavior": "delete", "NodeChecks": [], "Checks": []});
        let made = self.ask(Method::PUT, "session/create", wanted.to_string()).await;
        let made: Value = serde_json::from_slice(&made.body).expect("JSON");
        made["ID"].as_str().expect("a session").into()
    }

    fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.namespace)
    }
}

impl Raw for ByHand {
    type Grant = Grant;
    type Listener = (String, u64);

    async fn acquire(&self, name: &str) -> Grant {
        let (session, key) = (self.session().await, self.key(name));
        let value = "eyJob2xkZXIiOiJiZW5jaDoxIiwidHRsIjo2MDAwMH0=";
        let lock = json!({"Verb": "lock", "Key": key, "Value": value, "Session": session});
        let done = self.txn(json!([{ "KV": lock }])).await;
        let index = done["Results"][0]["KV"]["ModifyIndex"].as_u64().expect("an index");
        Grant { session, index }
    }

    async fn release(&self, name: &str, grant: Grant) {
        let (key, Grant { session, index }) = (self.key(name), grant);
        let check = json!({"Verb": "check-session", "Key": key, "Session": session});
        let delete = json!({"Verb": "delete-cas", "Key": key, "Index": index});
        self.txn(json!([{ "KV": check }, { "KV": delete }])).await;
        self.sessions.lock().expect("no panic before").push(session);
    }

    async fn listen(&self, name: &str) -> Self::Listener {
        let path = format!("kv/{}?consistent", self.key(name));
        let reply = self.ask(Method::GET, &path, String::new()).await;
        (self.key(name), reply.index)
    }

    async fn released(&self, (key, index): &mut Self::Listener) {
        loop {
            let path = format!("kv/{key}?consistent&index={index}&wait=60s");
            let reply = self.ask(Method::GET, &path, String::new()).await;
            if reply.status == 404 {
                return;
            }
            *index = reply.index;
        }
    }
}

/// The lock's sessions are gone after the bench; those of the raw driver after two minutes.
fn main() -> ExitCode {
    let url = url_from_env("GLOCK_CONSUL_URL", "consul");
    let (url, token) = url.split_once("?token=").unwrap_or((&url, ""));
    let url = url.trim_end_matches('/');
    let lock = |namespace: &str| {
        let config = LockConfig::default().with_namespace(namespace);
        let client = ConsulClient::builder(url).token(token).build().expect("a URL");
        ConsulLock::new(client).with_config(config).expect("settings")
    };
    if crowd::contended(lock) {
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let holds = runtime.block_on(async {
        if crowd::is_asked_for() {
            let through = |proxy| format!("http://{proxy}?token={token}");
            return crowd::run_counted("consul", url, "GLOCK_CONSUL_URL", through).await.is_ok();
        }
        let namespace = fresh_namespace();
        let (lock, second) = (lock(&namespace), lock(&namespace));
        let holds =
            glock_harness::bench::run("consul", lock, second, ByHand::new(url, token)).await;
        // The spare sessions are destroyed.
        tokio::time::sleep(Duration::from_secs(1)).await;
        holds
    });
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
