//! A history as JSON lines, to look into after a failure.

use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use crate::history::record::{Grant, Outcome, Record, Renewal};

/// Writes one object a line; times are nanoseconds since the history began.
pub(crate) fn write(records: &[Record], out: &mut impl Write) -> io::Result<()> {
    for record in records {
        let Record { who, id, invoke, outcome } = record;
        let (who, id, invoke) = (Text(who), Text(id), invoke.as_nanos());
        write!(out, r#"{{"who":{who},"id":{id},"invoke":{invoke},"outcome":"#)?;
        match outcome {
            Outcome::Unknown => write!(out, r#""unknown""#)?,
            Outcome::Held { at } => write!(out, r#""held","at":{}"#, at.as_nanos())?,
            Outcome::TimedOut { at } => write!(out, r#""timed out","at":{}"#, at.as_nanos())?,
            Outcome::Granted(grant) => write_grant(grant, out)?,
        }
        out.write_all(b"}\n")?;
    }
    out.flush()
}

fn write_grant(grant: &Grant, out: &mut impl Write) -> io::Result<()> {
    let Grant { token, ok, until, overdue, renewals, lost, release, released } = grant;
    let (ok, until, overdue) = (ok.as_nanos(), until.as_nanos(), overdue.as_nanos());
    write!(
        out,
        r#""granted","token":{token},"ok":{ok},"until":{until},"overdue":{overdue},"renewals":["#
    )?;
    for (index, Renewal { invoke, ok, until }) in renewals.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let (invoke, ok, until) = (invoke.as_nanos(), ok.as_nanos(), until.as_nanos());
        write!(out, r#"{comma}{{"invoke":{invoke},"ok":{ok},"until":{until}}}"#)?;
    }
    let (lost, release, released) = (Moment(*lost), Moment(*release), Moment(*released));
    write!(out, r#"],"lost":{lost},"release":{release},"released":{released}"#)
}

struct Moment(Option<Duration>);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(time) => write!(f, "{}", time.as_nanos()),
            None => f.write_str("null"),
        }
    }
}

/// A JSON string. Ids are hostile: whatever some reader takes for the end of a line is escaped too.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for char in self.0.chars() {
            match char {
                '"' | '\\' => write!(f, "\\{char}")?,
                '\u{2028}' | '\u{2029}' => write!(f, "\\u{:04x}", u32::from(char))?,
                // All control characters are below U+10000, so four digits do.
                _ if char.is_control() => write!(f, "\\u{:04x}", u32::from(char))?,
                _ => write!(f, "{char}")?,
            }
        }
        f.write_str("\"")
    }
}
