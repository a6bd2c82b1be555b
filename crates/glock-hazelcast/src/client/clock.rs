//! `MemberClock`: what time it is by the members' clocks, for the first fence of a lock.

use std::time::Duration;

use glock_core::toolkit::Mutex;
use tokio::time::Instant;

use crate::{
    client::link::Link,
    wire::{HazelcastError, PendingReply, auth::new_ids},
};

/// What time it is by the members' clocks. The first fence of a lock is made of it, so that it is greater
/// than those of a lock whose record is lost. It decides nothing else.
#[derive(Debug, Default)]
pub(crate) struct MemberClock {
    last: Mutex<Option<(u64, Instant)>>,
    /// Why it could not be read.
    failed: Mutex<Option<String>>,
}

/// The generator of ids that a member makes of its clock.
const GENERATOR: &str = "glock";
/// An id has a time in milliseconds above so many bits.
const SHIFT: u32 = 22;
/// How long a reading is good for: two clocks part by less than a millisecond in that time.
const FRESH: Duration = Duration::from_mins(1);

impl MemberClock {
    /// Sends a request for the time, if it is not known.
    pub(crate) fn send_read(&self, link: &Link) -> Result<Option<PendingReply>, HazelcastError> {
        let is_fresh = self.last.lock().is_some_and(|(_, at)| at.elapsed() < FRESH);
        if is_fresh { Ok(None) } else { link.send(new_ids::request(GENERATOR)).map(Some) }
    }

    /// Takes the reply.
    pub(crate) async fn read(&self, reply: Option<PendingReply>) -> Result<(), HazelcastError> {
        let Some(reply) = reply else { return Ok(()) };
        let id = match new_ids::decode(reply.await?) {
            Ok(id) => id,
            // Most grants do without.
            Err(err @ HazelcastError::Server { .. }) => {
                *self.failed.lock() = Some(err.to_string());
                return Ok(());
            }
            Err(err) => return Err(err),
        };
        let millis = u64::try_from(id >> SHIFT).ok().filter(|millis| *millis > 0);
        let micros = millis.and_then(|millis| millis.checked_mul(1_000));
        let micros = micros.ok_or_else(|| HazelcastError::unexpected("an id without a time"))?;
        let (mut last, now) = (self.last.lock(), Instant::now());
        // Not back: it would make a lower fence.
        let known = last.map_or(0, |last| at(last, now));
        *last = Some((micros.max(known), now));
        Ok(())
    }

    /// The time in microseconds.
    ///
    /// # Errors
    ///
    /// Why it could not be read.
    pub(crate) fn now(&self) -> Result<u64, HazelcastError> {
        let now = self.last.lock().map(|last| at(last, Instant::now()));
        now.ok_or_else(|| {
            let why = self.failed.lock().clone().unwrap_or_default();
            HazelcastError::NotSent(format!("the members' clock could not be read: {why}").into())
        })
    }
}

fn at((micros, read_at): (u64, Instant), now: Instant) -> u64 {
    let passed = now.saturating_duration_since(read_at).as_micros();
    micros.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX))
}
