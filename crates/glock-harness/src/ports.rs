//! Ports for servers, which no other program takes while a server is down.

use std::{
    io,
    net::{Ipv4Addr, TcpListener, UdpSocket},
    ops::Range,
    sync::Mutex,
};

/// Below the ports that systems give to whoever asks for any, so that no client and no proxy gets one of a
/// server that is down.
const PORTS: Range<u16> = 10_000..32_768;
/// No server has an address there. A port that is bound there is another process's.
const RESERVED_AT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Some ports are always in use.
const TRIES: usize = 1_000;

enum Reservation {
    Made(UdpSocket),
    Taken,
    /// The system has no such address.
    Impossible,
}

/// The reservations, which end with this process.
static RESERVED: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());

/// Loopback ports that are free at the moment, all different, and that no other call returns while this process
/// lives: a server that was killed finds its port free, and its clients find no other server there.
///
/// # Errors
///
/// When the machine has none.
pub fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let (mut ports, mut open) = (Vec::new(), Vec::new());
    for _ in 0..TRIES {
        if ports.len() == count {
            return Ok(ports);
        }
        let port = random_port()?;
        let reservation = match reserve(port)? {
            Reservation::Taken => continue,
            Reservation::Made(socket) => Some(socket),
            Reservation::Impossible => None,
        };
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            // Open until all are found, as is what they reserve.
            open.push(listener);
            ports.push(port);
        }
        let mut reserved = RESERVED.lock().map_err(|_| io::Error::other("a thread panicked"))?;
        reserved.extend(reservation);
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "no loopback port is free"))
}

fn reserve(port: u16) -> io::Result<Reservation> {
    match UdpSocket::bind((RESERVED_AT, port)) {
        Ok(socket) => Ok(Reservation::Made(socket)),
        Err(err) if err.kind() == io::ErrorKind::AddrInUse => Ok(Reservation::Taken),
        Err(err) if err.kind() == io::ErrorKind::AddrNotAvailable => Ok(Reservation::Impossible),
        Err(err) => Err(err),
    }
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
    fn a_port_that_another_process_reserved_is_not_returned() {
        let port = free_ports(1).unwrap()[0];
        assert!(matches!(reserve(port).unwrap(), Reservation::Taken | Reservation::Impossible));
    }
}
