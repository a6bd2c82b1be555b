//! One connection through the proxy: a loop that moves bytes both ways as the faults in force allow.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::proxy::control::{Born, Control, Cut, Faults, Mode};
use crate::proxy::direction::Direction;
use crate::proxy::requests::Requests;
use crate::proxy::turns::{Side, Turns};

const BURST_MAX: usize = 64 << 10;

/// How a connection ended, and so how its sockets are closed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Both ends have sent all; both know.
    Closed,
    /// By a fault, or by a reset of one end that the other end is to see too.
    Reset,
    /// By a fault that lets the client's last words arrive, so much later.
    Late { sent: Vec<u8>, after: Duration },
}

/// Moves bytes between `client` and `server` until one of them or a fault ends it.
pub(crate) async fn relay(
    control: Arc<Control>,
    born: Born,
    client: &mut TcpStream,
    server: &mut TcpStream,
) -> End {
    let (faults, framing) = (control.watch(), control.framing);
    let relay = Relay {
        control,
        faults,
        born,
        up: Direction::default(),
        down: Direction::default(),
        speaker: Speaker::None,
        turns: Turns::default(),
        requests: Requests::new(framing),
        answers: Requests::answers(framing),
        asks: false,
        cut: None,
        drained: Drained::GoOn,
    };
    // A peer that reset or vanished is an end like a fault: the other peer is to see the same.
    relay.run(client, server).await.unwrap_or(End::Reset)
}

struct Relay {
    control: Arc<Control>,
    faults: watch::Receiver<Faults>,
    born: Born,
    up: Direction,
    down: Direction,
    speaker: Speaker,
    /// The same, for the counters.
    turns: Turns,
    requests: Requests,
    /// The server's messages, as far as they are delimited.
    answers: Requests,
    /// Whether the client waits for an answer.
    asks: bool,
    /// The one-shot cut that the latest request has taken upon itself.
    cut: Option<Cut>,
    drained: Drained,
}

/// Who spoke last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaker {
    None,
    Client,
    Server,
}

/// What to do when a direction has written all it has; anything but going on means that nothing more is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drained {
    GoOn,
    ResetAfterUp,
    ResetAfterDown,
}

/// What a connection does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Continue,
    Reset,
    Late(Duration),
}

impl Drop for Relay {
    fn drop(&mut self) {
        if self.asks {
            self.control.state().open_requests -= 1;
        }
    }
}

impl Relay {
    async fn run(mut self, client: &mut TcpStream, server: &mut TcpStream) -> io::Result<End> {
        let (mut client_reads, mut client_writes) = client.split();
        let (mut server_reads, mut server_writes) = server.split();
        let (mut from_client, mut from_server) = (vec![0; BURST_MAX], vec![0; BURST_MAX]);
        loop {
            let faults = *self.faults.borrow_and_update();
            self.lose(faults.mode);
            if let Some(end) = self.ending(faults) {
                return Ok(end);
            }
            let flows = faults.mode != Mode::Stall && self.born.mutes == faults.mutes;
            let answers = flows && faults.mode != Mode::HoldReplies;
            let reads = flows && self.drained == Drained::GoOn;
            if flows && self.up.must_tell_end() {
                server_writes.shutdown().await?;
                self.up.end_told();
                continue;
            }
            if answers && self.down.must_tell_end() {
                client_writes.shutdown().await?;
                self.down.end_told();
                continue;
            }
            let now = Instant::now();
            let due_up = self.up.due(faults.delay).filter(|_| flows);
            let due_down = self.down.due(faults.delay).filter(|_| answers);
            let wake = [due_up, due_down].into_iter().flatten().filter(|due| *due > now).min();

            // In this order, so that no byte moves once a fault is set. Every branch is cancel safe.
            tokio::select! {
                biased;
                changed = self.faults.changed() => if changed.is_err() { return Ok(End::Reset) },
                wrote = server_writes.write(self.up.head()), if due_up.is_some_and(|due| due <= now) => {
                    self.up.wrote(wrote?);
                }
                wrote = client_writes.write(self.down.head()), if due_down.is_some_and(|due| due <= now) => {
                    self.down.wrote(wrote?);
                }
                read = client_reads.read(&mut from_client), if reads && self.up.may_read() => {
                    match self.client_sent(&from_client[..read?]) {
                        Next::Continue => {}
                        Next::Reset => return Ok(End::Reset),
                        Next::Late(after) => return Ok(End::Late { sent: self.up.rest(), after }),
                    }
                }
                read = server_reads.read(&mut from_server), if reads && self.down.may_read() => {
                    if self.server_sent(&from_server[..read?]) == Next::Reset { return Ok(End::Reset) }
                }
                () = sleep_until(wake.unwrap_or(now)), if wake.is_some() => {}
            }
        }
    }

    fn lose(&mut self, mode: Mode) {
        match mode {
            Mode::DropRequests => self.up.lose(),
            Mode::DropReplies => self.down.lose(),
            Mode::Pass | Mode::HoldReplies | Mode::Stall => {}
        }
    }

    fn ending(&self, faults: Faults) -> Option<End> {
        let gap = self.up.has_gap() || self.down.has_gap();
        let healed = gap && faults.mode == Mode::Pass;
        let drained = match self.drained {
            Drained::GoOn => false,
            Drained::ResetAfterUp => self.up.is_empty(),
            Drained::ResetAfterDown => self.down.is_empty(),
        };
        let mute_lifted = self.born.mutes < faults.mutes_lifted;
        if self.born.cuts != faults.cuts || mute_lifted || healed || drained {
            return Some(End::Reset);
        }
        let over = self.up.is_over() && self.down.is_over();
        over.then_some(if gap { End::Reset } else { End::Closed })
    }

    fn client_sent(&mut self, sent: &[u8]) -> Next {
        if sent.is_empty() {
            self.up.end();
            return Next::Continue;
        }
        let mut state = self.control.state();
        state.counts.bytes_up += sent.len() as u64;
        let received = self.requests.receive(sent);
        if received.pings {
            self.up.push(sent);
            return Next::Continue;
        }
        let counted = self.turns.sent(Side::Client, sent);
        state.counts.asked += received.asked.unwrap_or(counted.asked);
        if counted.turn {
            state.counts.requests += 1;
            if !std::mem::replace(&mut self.asks, true) {
                state.counts.in_a_row += u64::from(state.open_requests == 0);
                state.open_requests += 1;
            }
        }
        let armed = state.armed.take();
        drop(state);

        let reply_seen = self.speaker == Speaker::Server;
        self.speaker = Speaker::Client;
        match (armed, self.cut) {
            (Some(cut), _) => self.cut = Some(cut),
            // The reply that was to be cut inside was shorter than that.
            (None, Some(Cut::InsideReply(_))) if reply_seen => return Next::Reset,
            (None, _) => {}
        }
        match &mut self.cut {
            Some(Cut::BeforeRequest | Cut::InsideRequest(0)) => return Next::Reset,
            Some(Cut::LateRequest(after)) => {
                self.up.push(sent);
                return Next::Late(*after);
            }
            Some(Cut::InsideRequest(left)) => {
                let count = sent.len().min(*left);
                *left -= count;
                self.up.push(&sent[..count]);
                if *left == 0 {
                    self.drained = Drained::ResetAfterUp;
                }
            }
            Some(Cut::AfterRequest | Cut::InsideReply(_)) | None => self.up.push(sent),
        }
        Next::Continue
    }

    fn server_sent(&mut self, sent: &[u8]) -> Next {
        if sent.is_empty() {
            self.down.end();
            return Next::Continue;
        }
        let mut state = self.control.state();
        state.counts.bytes_down += sent.len() as u64;
        if self.answers.receive(sent).pings {
            self.down.push(sent);
            return Next::Continue;
        }
        let counted = self.turns.sent(Side::Server, sent);
        if counted.turn {
            state.counts.replies += 1;
        }
        if counted.answer {
            state.counts.round_trips += 1;
        }
        if std::mem::take(&mut self.asks) {
            state.open_requests -= 1;
        }
        drop(state);

        self.speaker = Speaker::Server;
        match &mut self.cut {
            // A request that was shorter than the place to cut it at is answered now: cut at its end.
            Some(
                Cut::BeforeRequest
                | Cut::InsideRequest(_)
                | Cut::AfterRequest
                | Cut::InsideReply(0)
                | Cut::LateRequest(_),
            ) => {
                return Next::Reset;
            }
            Some(Cut::InsideReply(left)) => {
                let count = sent.len().min(*left);
                *left -= count;
                self.down.push(&sent[..count]);
                if *left == 0 {
                    self.drained = Drained::ResetAfterDown;
                }
            }
            None => self.down.push(sent),
        }
        Next::Continue
    }
}
