//! Servers of our own, from the program that `GLOCK_REDIS_SERVER` names.

use std::{fs, path::PathBuf};

use glock_harness::process::{ServerProcess, free_ports};
use glock_redis::redis::Client;
use glock_testing::fresh_namespace;

use crate::support::eventually;

/// A server with a directory of its own; both are gone when it is dropped, or this process ends.
pub(crate) struct Private {
    pub(crate) port: u16,
    dir: PathBuf,
    args: Vec<String>,
    running: Option<ServerProcess>,
}

impl Private {
    /// Starts a server that keeps nothing.
    pub(crate) async fn start(args: &[&str]) -> Self {
        Self::start_at(free_ports(1).unwrap()[0], args).await
    }

    /// Starts a node of a cluster; and where it talks to the others.
    #[cfg(feature = "cluster")]
    pub(crate) async fn node(args: &[&str]) -> (Self, u16) {
        // Together, so that they are two.
        let ports = free_ports(2).unwrap();
        let bus = ports[1].to_string();
        let cluster = ["--cluster-enabled", "yes", "--cluster-port", &bus];
        (Self::start_at(ports[0], &[&cluster, args].concat()).await, ports[1])
    }

    async fn start_at(port: u16, args: &[&str]) -> Self {
        let mut server = Self::prepare(port);
        let plain = ["--save", "", "--appendonly", "no"];
        server.args.extend(args.iter().chain(&plain).map(|&arg| arg.to_owned()));
        server.listen_plainly();
        server.restart().await;
        server
    }

    /// Starts a sentinel that calls the server at `primary` "main".
    #[cfg(feature = "sentinel")]
    pub(crate) async fn sentinel(primary: u16) -> Self {
        let mut server = Self::prepare(free_ports(1).unwrap()[0]);
        // It writes down there what it finds out.
        let file = server.dir.join("sentinel.conf");
        let conf = format!(
            "sentinel monitor main 127.0.0.1 {primary} 1\n\
             sentinel down-after-milliseconds main 500\n\
             sentinel failover-timeout main 3000\n"
        );
        fs::write(&file, conf).unwrap();
        server.args = vec![file.to_str().unwrap().into(), "--sentinel".into()];
        server.listen_plainly();
        server.restart().await;
        server
    }

    /// Starts a server that speaks TLS only, with a new certificate for `name`; and that
    /// certificate.
    #[cfg(feature = "tokio-rustls-comp")]
    pub(crate) async fn tls(name: &str) -> (Self, Vec<u8>) {
        let mut server = Self::prepare(free_ports(1).unwrap()[0]);
        let made = std::process::Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"])
            .args(["-subj", "/CN=glock", "-addext", &format!("subjectAltName={name}")])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .args(["-keyout", "key.pem", "-out", "cert.pem"])
            .current_dir(&server.dir)
            .stderr(std::process::Stdio::null())
            .status();
        assert!(made.expect("openssl cannot be started").success());
        let port = server.port.to_string();
        let args = ["--port", "0", "--tls-port", &port, "--tls-auth-clients", "no"];
        let files = ["--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem"];
        let authority = ["--tls-ca-cert-file", "cert.pem"];
        server.args =
            [&args[..], &files, &authority].concat().into_iter().map(Into::into).collect();
        server.spawn();
        eventually("the port is open", async || {
            tokio::net::TcpStream::connect(("127.0.0.1", server.port)).await.is_ok()
        })
        .await;
        let certificate = fs::read(server.dir.join("cert.pem")).unwrap();
        (server, certificate)
    }

    fn prepare(port: u16) -> Self {
        let dir = std::env::temp_dir().join(format!("glock-redis-{}", fresh_namespace()));
        fs::create_dir_all(&dir).unwrap();
        Self { port, dir, args: Vec::new(), running: None }
    }

    fn listen_plainly(&mut self) {
        self.args.extend(["--port".to_owned(), self.port.to_string()]);
    }

    /// Starts it again at the same port.
    pub(crate) async fn restart(&mut self) {
        self.stop();
        self.spawn();
        eventually("the server answers", async || {
            self.client().get_multiplexed_async_connection().await.is_ok()
        })
        .await;
    }

    fn spawn(&mut self) {
        let program = std::env::var("GLOCK_REDIS_SERVER").expect(
            "GLOCK_REDIS_SERVER is not set; set it to the path of a redis-server or valkey-server",
        );
        let program = std::path::absolute(program).unwrap();
        let local = ["--bind", "127.0.0.1"].map(ToOwned::to_owned);
        let kept = ServerProcess::start(&program, &[&self.args[..], &local].concat(), &self.dir);
        self.running = Some(kept.expect("GLOCK_REDIS_SERVER cannot be started"));
    }

    /// Kills it, as a crash would.
    pub(crate) fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.kill_9().unwrap();
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    pub(crate) fn client(&self) -> Client {
        Client::open(self.url()).unwrap()
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // One that was stopped has left its directory.
        if self.running.is_none() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}
