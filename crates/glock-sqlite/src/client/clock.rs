//! `Clock`: the clock that leases count on, and the one that tokens begin at.

use std::time::{Duration, SystemTime};

/// Microseconds on one of the two clocks.
pub(crate) type Micros = i64;

/// The clocks of this machine, which all processes of the file share.
///
/// Leases count on the clock that `Instant` reads, from the start of the system: it cannot be set, and it
/// stands still while the machine sleeps, as the deadlines of all holders do. It means nothing after the
/// next start of the system, so the file says which start its times belong to.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    boot: String,
    /// How far a container's clock is ahead of the machine's.
    ahead: Micros,
}

impl Clock {
    /// Which start of the system the times belong to: letters, digits and `-`.
    pub(crate) fn boot(&self) -> &str {
        &self.boot
    }

    /// The time that tokens begin at: since 1970, and it may be set.
    pub(crate) fn wall() -> Micros {
        #[expect(
            clippy::disallowed_methods,
            reason = "a token must be greater than those of a file that was lost; no lease depends on it"
        )]
        let now = SystemTime::now();
        now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, micros)
    }
}

/// Whole microseconds. A checked TTL is a year at most.
pub(crate) fn micros(time: Duration) -> Micros {
    Micros::try_from(time.as_micros()).unwrap_or(Micros::MAX)
}

#[cfg(target_os = "linux")]
impl Clock {
    /// Reads which start of the system this is.
    pub(crate) fn new() -> std::io::Result<Self> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        // A container may have been given a clock of its own; without the file there are none.
        let offsets = std::fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
        Ok(Self { boot: plain(&boot), ahead: ahead(&offsets) })
    }

    /// The time that leases count on.
    pub(crate) fn now(&self) -> Micros {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        now.tv_sec * 1_000_000 + now.tv_nsec / 1_000 - self.ahead
    }
}

#[cfg(not(target_os = "linux"))]
impl Clock {
    /// Takes the wall clock for both: elsewhere there is no safe way to the other one.
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self { boot: "wall-clock".to_owned(), ahead: 0 })
    }

    /// The time that leases count on.
    pub(crate) fn now(&self) -> Micros {
        Self::wall() - self.ahead
    }
}

/// What of a text may stand in a statement.
#[cfg(target_os = "linux")]
fn plain(text: &str) -> String {
    text.chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '-').collect()
}

/// The offset of the clock in lines such as `monotonic 86400 0`: seconds and nanoseconds.
#[cfg(target_os = "linux")]
fn ahead(offsets: &str) -> Micros {
    let mut lines = offsets.lines().map(|line| line.split_whitespace());
    let found = lines.find_map(|mut words| {
        let is_ours = words.next() == Some("monotonic");
        let mut number = || words.next()?.parse::<Micros>().ok();
        is_ours.then(|| Some(number()? * 1_000_000 + number()? / 1_000)).flatten()
    });
    found.unwrap_or(0)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_the_system_and_the_offset_of_a_container_are_read() {
        let (one, other) = (Clock::new().unwrap(), Clock::new().unwrap());
        assert_eq!(one.boot(), other.boot());
        assert!(one.boot().len() > 30, "{}", one.boot());
        assert_eq!(ahead("monotonic           0         0\nboottime            0         0\n"), 0);
        assert_eq!(ahead("boottime 7 0\nmonotonic -86400 5000\n"), -86_400 * 1_000_000 + 5);
        assert_eq!((ahead(""), ahead("monotonic x y")), (0, 0));
        assert_eq!(plain("a'b\n"), "ab");
    }

    #[test]
    fn leases_count_on_the_clock_of_deadlines() {
        let clock = Clock::new().unwrap();
        let since = tokio::time::Instant::now();
        let began = clock.now();
        std::thread::sleep(Duration::from_millis(20));
        let counted = clock.now() - began;
        let passed = micros(since.elapsed()) + 1;
        assert!(counted >= 20_000, "{counted}");
        assert!(counted <= passed, "{counted} of {passed}: it was read within");
        assert!(Clock::wall() > began, "1970 is longer ago than the start of the system");
    }
}
