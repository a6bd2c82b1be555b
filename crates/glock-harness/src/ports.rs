//! Ports for servers, which no other program takes while a server is down.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, TcpListener, UdpSocket},
    ops::Range,
    sync::Mutex,
};

/// A system gives a port above these to a client or a proxy, so neither gets one of a server that is down.
const PORTS: Range<u16> = 10_000..32_768;
/// No server has an address there. A port that is bound there is another process's.
const RESERVED_AT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Some ports are always in use.
const TRIES: usize = 1_000;

/// The ports that this process has been given, with what reserves each until the process ends: `None` where the
/// system has no such address.
static RESERVED: Mutex<BTreeMap<u16, Option<UdpSocket>>> = Mutex::new(BTreeMap::new());

/// A loopback port that is free at the moment, and that no other call returns while this process lives: a server
/// that was killed finds its port free, and its clients find no other server there.
///
/// # Errors
///
/// When the machine has none.
pub fn free_port() -> io::Result<u16> {
    let mut reserved = RESERVED.lock().map_err(|_| io::Error::other("a thread panicked"))?;
    for _ in 0..TRIES {
        let port = random_port()?;
        if reserved.contains_key(&port) {
            continue;
        }
        let reservation = match UdpSocket::bind((RESERVED_AT, port)) {
            Ok(socket) => Some(socket),
            Err(err) if err.kind() == io::ErrorKind::AddrNotAvailable => None,
            Err(err) if err.kind() == io::ErrorKind::AddrInUse => continue,
            Err(err) => return Err(err),
        };
        // One that is in use stays reserved: it is not tried again.
        reserved.insert(port, reservation);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "no loopback port is free"))
}

/// So many ports as [`free_port`] returns.
///
/// # Errors
///
/// As [`free_port`].
pub fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    (0..count).map(|_| free_port()).collect()
}

fn random_port() -> io::Result<u16> {
    let mut random = [0; 2];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let count = PORTS.end - PORTS.start;
    Ok(PORTS.start + u16::from_ne_bytes(random) % count)
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, thread, time::Duration};

    use super::*;

    /// A process that another test starts just now has all sockets of this one, for a moment.
    fn is_free_soon(port: u16) -> bool {
        (0..10_000).any(|_| {
            thread::sleep(Duration::from_millis(1));
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
        })
    }

    #[test]
    fn no_port_is_returned_twice_though_it_is_free() {
        let mut all = HashSet::new();
        for _ in 0..20 {
            for port in free_ports(9).unwrap() {
                assert!(PORTS.contains(&port) && all.insert(port), "{port}");
                assert!(is_free_soon(port), "{port}");
            }
        }
        assert_eq!(all.len(), 180);
    }

    #[test]
    fn a_port_that_another_process_could_take_is_reserved() {
        let port = free_port().unwrap();
        let taken = UdpSocket::bind((RESERVED_AT, port)).map_err(|err| err.kind());
        assert!(matches!(taken, Err(io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable)));
    }
}
