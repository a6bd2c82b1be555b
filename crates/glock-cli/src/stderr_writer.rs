//! `StderrWriter`: a thread that writes to standard error.

use std::{
    io::{self, Write as _},
    sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    thread,
    time::Duration,
};

use crate::signals::use_terminal_from_background;

/// A thread that writes to standard error. It alone waits while nobody reads the pipe, or while Ctrl-S stops the
/// terminal: glock renews the lock meanwhile, and ends a command that has lost it.
pub(crate) struct StderrWriter(SyncSender<Order>);

enum Order {
    Write(String),
    /// Tells when all before it is written.
    Flush(Sender<()>),
}

/// More lines than these are lost while none is read.
const LINES_MAX: usize = 64;
/// How long the end of the program waits for a reader.
const FLUSH_MAX: Duration = Duration::from_millis(500);

impl StderrWriter {
    /// Starts the thread. Nothing is written where there can be none.
    pub(crate) fn start() -> Self {
        let (sender, orders) = sync_channel(LINES_MAX);
        let _ = thread::Builder::new().name("stderr".into()).spawn(move || write(&orders));
        Self(sender)
    }

    pub(crate) fn write(&self, text: String) {
        let _full_or_gone = self.0.try_send(Order::Write(text));
    }

    pub(crate) fn flush(&self) {
        let (written, all) = channel();
        if self.0.try_send(Order::Flush(written)).is_ok() {
            let _late = all.recv_timeout(FLUSH_MAX);
        }
    }
}

fn write(orders: &Receiver<Order>) {
    let _ = use_terminal_from_background();
    for order in orders {
        match order {
            // A terminal that is gone is no reason to end.
            Order::Write(text) => drop(io::stderr().write_all(text.as_bytes())),
            Order::Flush(written) => drop(written.send(())),
        }
    }
}
