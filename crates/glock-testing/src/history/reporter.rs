//! Tells another process, line by line, what this one does with a lock.

use std::fmt;
use std::io::{self, BufRead, Write};

use tokio::time::Instant;

/// The child's side: one try at a time, reported on `to` (its standard output), with *go* awaited on `from` (its standard
/// input).
///
/// Its methods block for as long as the parent takes to answer.
#[derive(Debug)]
pub struct Reporter<R, W> {
    from: R,
    to: W,
    go: Instant,
    renewing: Instant,
}

impl<R: BufRead, W: Write> Reporter<R, W> {
    /// Reports to the parent at the other end of `from` and `to`.
    pub fn new(from: R, to: W) -> Self {
        let now = Instant::now();
        Self { from, to, go: now, renewing: now }
    }

    /// Announces a try, and returns when it may begin.
    ///
    /// # Errors
    ///
    /// Those of reading and writing; `UnexpectedEof` when the parent is gone.
    pub fn acquiring(&mut self, id: &str) -> io::Result<()> {
        self.tell(format_args!("acquiring {}", escape(id)))?;
        let mut answer = String::new();
        if self.from.read_line(&mut answer)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.go = Instant::now();
        Ok(())
    }

    /// The try was refused, as another owner holds the lock.
    ///
    /// # Errors
    ///
    /// Those of writing, as for all that follow.
    pub fn held(&mut self) -> io::Result<()> {
        self.tell(format_args!("held"))
    }

    /// The try was given up after waiting.
    ///
    /// # Errors
    ///
    /// Those of writing.
    pub fn timed_out(&mut self) -> io::Result<()> {
        self.tell(format_args!("timed-out"))
    }

    /// How the try ended is unknown.
    ///
    /// # Errors
    ///
    /// Those of writing.
    pub fn unknown(&mut self) -> io::Result<()> {
        self.tell(format_args!("unknown"))
    }

    /// The try was granted, by a lease whose local deadline is `until`.
    ///
    /// # Errors
    ///
    /// Those of writing.
    pub fn granted(&mut self, token: u64, until: Instant) -> io::Result<()> {
        let (ok, until) = (self.since_go(Instant::now()), self.since_go(until));
        self.tell(format_args!("granted {token} {ok} {until}"))
    }

    /// A renewal is about to be asked for.
    pub fn renewing(&mut self) {
        self.renewing = Instant::now();
    }

    /// The renewal that was asked for last has been granted.
    ///
    /// # Errors
    ///
    /// Those of writing.
    pub fn renewed(&mut self, until: Instant) -> io::Result<()> {
        let (invoke, ok) = (self.since_go(self.renewing), self.since_go(Instant::now()));
        let until = self.since_go(until);
        self.tell(format_args!("renewed {invoke} {ok} {until}"))
    }

    /// The holder has learned that the lock is lost.
    ///
    /// # Errors
    ///
    /// Those of writing.
    pub fn lost(&mut self) -> io::Result<()> {
        let at = self.since_go(Instant::now());
        self.tell(format_args!("lost {at}"))
    }

    /// The release is about to be asked for.
    ///
    /// # Errors
    ///
    /// Those of writing.
    pub fn releasing(&mut self) -> io::Result<()> {
        let at = self.since_go(Instant::now());
        self.tell(format_args!("releasing {at}"))
    }

    /// The store has confirmed the release.
    ///
    /// # Errors
    ///
    /// Those of writing.
    pub fn released(&mut self) -> io::Result<()> {
        self.tell(format_args!("released"))
    }

    fn since_go(&self, time: Instant) -> u64 {
        let nanos = time.saturating_duration_since(self.go).as_nanos();
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    fn tell(&mut self, line: fmt::Arguments<'_>) -> io::Result<()> {
        // In one write, so that no other output comes between.
        self.to.write_all(format!("{line}\n").as_bytes())?;
        self.to.flush()
    }
}

/// Keeps an id on one line.
fn escape(id: &str) -> String {
    id.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r")
}
