//! Servers of our own, from the program that `GLOCK_REDIS_SERVER` names.

use std::{
    fs,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use glock_redis::redis::Client;
use glock_testing::fresh_namespace;

use crate::support::eventually;

/// A port that nobody uses at the moment.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A server with a directory of its own; it is killed when it is dropped.
pub(crate) struct Private {
    pub(crate) port: u16,
    dir: PathBuf,
    args: Vec<String>,
    child: Option<Child>,
}

impl Private {
    /// Starts a server that keeps nothing.
    pub(crate) async fn start(args: &[&str]) -> Self {
        let mut server = Self::prepare();
        let plain = ["--save", "", "--appendonly", "no"];
        server.args.extend(args.iter().chain(&plain).map(|&arg| arg.to_owned()));
        server.restart().await;
        server
    }

    /// Starts a sentinel that calls the server at `primary` "main".
    #[cfg(feature = "sentinel")]
    pub(crate) async fn sentinel(primary: u16) -> Self {
        let mut server = Self::prepare();
        // It writes down there what it finds out.
        let file = server.dir.join("sentinel.conf");
        let conf = format!(
            "sentinel monitor main 127.0.0.1 {primary} 1\n\
             sentinel down-after-milliseconds main 500\n\
             sentinel failover-timeout main 3000\n"
        );
        fs::write(&file, conf).unwrap();
        server.args = vec![file.to_str().unwrap().into(), "--sentinel".into()];
        server.restart().await;
        server
    }

    fn prepare() -> Self {
        let dir = std::env::temp_dir().join(format!("glock-redis-{}", fresh_namespace()));
        fs::create_dir_all(&dir).unwrap();
        Self { port: free_port(), dir, args: Vec::new(), child: None }
    }

    /// Starts it again at the same port.
    pub(crate) async fn restart(&mut self) {
        let program = std::env::var("GLOCK_REDIS_SERVER").expect(
            "GLOCK_REDIS_SERVER is not set; set it to the path of a redis-server or valkey-server",
        );
        self.stop();
        let child = Command::new(program)
            .args(&self.args)
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .current_dir(&self.dir)
            .stdout(Stdio::null())
            .spawn();
        self.child = Some(child.expect("GLOCK_REDIS_SERVER cannot be started"));
        eventually("the server answers", async || {
            self.client().get_multiplexed_async_connection().await.is_ok()
        })
        .await;
    }

    /// Kills it, as a crash would.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
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
        self.stop();
        let _ = fs::remove_dir_all(&self.dir);
    }
}
