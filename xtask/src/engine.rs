//! Whether a container engine answers.

use std::{
    env,
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::PathBuf,
    time::Duration,
};

const ANSWER_MAX: Duration = Duration::from_secs(2);

/// Asks the engine at `DOCKER_HOST`, or at the usual sockets.
pub(crate) fn answers() -> bool {
    match env::var("DOCKER_HOST") {
        Ok(host) => match host.split_once("://") {
            Some(("unix", path)) => socket_answers(&path.into()),
            // It may want TLS, so that it listens must do.
            Some((_, address)) => TcpStream::connect(address).is_ok(),
            None => false,
        },
        Err(_) => usual_sockets().iter().any(socket_answers),
    }
}

fn usual_sockets() -> Vec<PathBuf> {
    let below = |variable: &str, path: &str| Some(PathBuf::from(env::var_os(variable)?).join(path));
    let sockets = [
        Some(PathBuf::from("/var/run/docker.sock")),
        below("XDG_RUNTIME_DIR", ".docker/run/docker.sock"),
        below("XDG_RUNTIME_DIR", "docker.sock"),
        below("HOME", ".docker/run/docker.sock"),
        below("HOME", ".docker/desktop/docker.sock"),
    ];
    sockets.into_iter().flatten().collect()
}

fn socket_answers(path: &PathBuf) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.write_all(b"GET /_ping HTTP/1.0\r\n\r\n")?;
        let mut answer = [0; 15];
        stream.read_exact(&mut answer)?;
        Ok(is_good(&answer))
    };
    ask().unwrap_or(false)
}

fn is_good(answer: &[u8]) -> bool {
    answer.starts_with(b"HTTP/1.") && answer.get(8..13) == Some(b" 200 ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_good_answer_is_an_engine() {
        assert!(is_good(b"HTTP/1.0 200 OK"));
        assert!(!is_good(b"HTTP/1.1 503 Ser"));
        assert!(!is_good(b"-ERR unknown com"));
        assert!(!socket_answers(&"/nonexistent/docker.sock".into()));
    }
}
