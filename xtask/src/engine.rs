//! Whether a container engine answers.

use std::{
    env,
    io::{self, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

const ANSWER_MAX: Duration = Duration::from_secs(2);

/// Asks the engine at `DOCKER_HOST`, or at the usual sockets.
pub(crate) fn answers() -> bool {
    match env::var("DOCKER_HOST") {
        Ok(host) => match host.split_once("://") {
            Some(("unix", path)) => socket_answers(Path::new(path)),
            Some((_, address)) => port_answers(address),
            None => false,
        },
        Err(_) => usual_sockets().iter().any(|path| socket_answers(path)),
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

/// It may want TLS, so that it listens must do.
fn port_answers(address: &str) -> bool {
    let address = address.to_owned();
    in_time(move || TcpStream::connect(address).map(|_| true))
}

fn socket_answers(path: &Path) -> bool {
    let path = path.to_owned();
    in_time(move || {
        let mut stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.write_all(b"GET /_ping HTTP/1.0\r\n\r\n")?;
        let mut answer = [0; 15];
        stream.read_exact(&mut answer)?;
        Ok(is_good(&answer))
    })
}

/// The answer, if it comes in time: a name that is looked up, a connection that is not taken and an
/// answer in drops may each take for ever. Who still waits ends with this process.
fn in_time(ask: impl FnOnce() -> io::Result<bool> + Send + 'static) -> bool {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || tell.send(ask().unwrap_or(false)));
    told.recv_timeout(ANSWER_MAX).unwrap_or(false)
}

fn is_good(answer: &[u8]) -> bool {
    answer.starts_with(b"HTTP/1.") && answer.get(8..13) == Some(b" 200 ")
}

#[cfg(test)]
mod tests {
    use std::{fs, net::TcpListener, os::unix::net::UnixListener};

    use super::*;

    #[test]
    fn only_a_good_answer_is_an_engine() {
        assert!(is_good(b"HTTP/1.0 200 OK"));
        assert!(!is_good(b"HTTP/1.1 503 Ser"));
        assert!(!is_good(b"-ERR unknown com"));
        assert!(!socket_answers(Path::new("/nonexistent/docker.sock")));
    }

    #[test]
    fn a_port_is_an_engine_if_somebody_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        assert!(port_answers(&address));
        drop(listener);
        assert!(!port_answers(&address));
    }

    #[test]
    fn an_answer_in_drops_is_not_waited_for() {
        let path = env::temp_dir().join(format!("xtask-engine-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for byte in b"HTTP/1.0 200 OK" {
                thread::sleep(ANSWER_MAX / 4);
                // Nobody may be there any more.
                drop(stream.write_all(&[*byte]));
            }
        });
        assert!(!socket_answers(&path));
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_question_without_an_answer_is_given_up() {
        assert!(!in_time(|| loop {
            thread::park();
        }));
    }
}
