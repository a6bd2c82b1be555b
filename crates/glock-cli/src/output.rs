//! `Output`: what is printed, for people or for machines.

use std::{
    fs::{self, File},
    io::{self, IsTerminal, Write as _},
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    sync::OnceLock,
};

use anstream::{AutoStream, ColorChoice, adapter::strip_str, stream::RawStream};
use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use serde_json::Value;

use crate::{
    exit::{Exit, Failure},
    stderr_writer::StderrWriter,
};

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

/// Whether what is printed is read by a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    Person,
    Program,
}

/// Prints results on standard output, and the rest on standard error.
pub(crate) struct Output {
    reader: Reader,
    color: ColorChoice,
    /// Writes to standard error, where no write may hold this thread up.
    writer: OnceLock<StderrWriter>,
}

pub(crate) const NAME: Style = AnsiColor::Cyan.on_default();
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const WARN: Style = AnsiColor::Yellow.on_default();
pub(crate) const BAD: Style = AnsiColor::Red.on_default();
pub(crate) const FAINT: Style = Style::new().dimmed();

/// Text in a style.
pub(crate) fn painted(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

impl Output {
    pub(crate) fn new(json: bool, color: Color) -> Self {
        let reader = if json { Reader::Program } else { Reader::Person };
        let color = match color {
            Color::Auto => ColorChoice::Auto,
            Color::Always => ColorChoice::Always,
            Color::Never => ColorChoice::Never,
        };
        Self { reader, color, writer: OnceLock::new() }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.reader == Reader::Program
    }

    /// Prints a result: the text for people, or the JSON for programs.
    pub(crate) fn result(
        &self,
        text: impl FnOnce() -> String,
        json: impl FnOnce() -> Value,
    ) -> Result<(), Failure> {
        let line = if self.is_json() { json().to_string() } else { text() };
        self.raw(&format!("{line}\n"))
    }

    /// Prints text on standard output as it is.
    pub(crate) fn raw(&self, text: &str) -> Result<(), Failure> {
        draw(&self.styled(text, &io::stdout()))
    }

    /// From now on, a reader of standard error that reads nothing holds nothing up: lines that it does not take
    /// are lost.
    pub(crate) fn write_aside(&self) {
        self.writer.get_or_init(StderrWriter::start);
    }

    /// Waits, for a little, until standard error has what was said.
    pub(crate) fn flush(&self) {
        if let Some(writer) = self.writer.get() {
            writer.flush();
        }
    }

    /// Says what happens meanwhile, on standard error.
    pub(crate) fn event(&self, text: impl FnOnce() -> String, json: impl FnOnce() -> Value) {
        let line = if self.is_json() { json().to_string() } else { format!("glock: {}", text()) };
        self.write_error(format!("{}\n", self.styled(&line, &io::stderr())));
    }

    /// Replaces the last line of the terminal, on standard error.
    pub(crate) fn status_line(&self, text: &str) {
        self.write_error(format!("\r\x1b[2K{}", self.styled(text, &io::stderr())));
    }

    fn write_error(&self, text: String) {
        match self.writer.get() {
            Some(writer) => writer.write(text),
            // A terminal that is gone is no reason to end.
            None => drop(io::stderr().write_all(text.as_bytes())),
        }
    }

    /// The text in colour, if that is for this stream.
    pub(crate) fn styled(&self, text: &str, stream: &impl RawStream) -> String {
        let choice = match self.color {
            ColorChoice::Auto => AutoStream::choice(stream),
            choice => choice,
        };
        if choice == ColorChoice::Never { strip_str(text).to_string() } else { text.to_owned() }
    }

    /// Whether a status line can be shown.
    pub(crate) fn has_status_line(&self) -> bool {
        !self.is_json() && moves_cursor(&io::stderr())
    }

    /// Whether a screen can be drawn on standard output.
    pub(crate) fn has_screen(&self) -> bool {
        !self.is_json() && moves_cursor(&io::stdout())
    }

    /// Says why the program ends.
    pub(crate) fn failed(&self, failure: &Failure) -> Exit {
        self.event(
            || painted(BAD, failure),
            || serde_json::json!({"error": failure.to_string(), "exit": failure.exit.number()}),
        );
        failure.exit
    }
}

/// Refuses a standard output that was closed, before something is made that is of no use unless it is printed.
/// The runtime opens the null device in its place, to read and write; a shell's `> /dev/null` is for writing
/// alone, and was meant. Some programs give the null device to read and write to what they start and do not
/// listen to, so what has a use besides is not refused.
pub(crate) fn check_stdout() -> Result<(), Failure> {
    let stdout = io::stdout();
    let is_null = || {
        let device = File::from(stdout.as_fd().try_clone_to_owned()?).metadata()?.rdev();
        Ok::<_, io::Error>(device == fs::metadata("/dev/null")?.rdev())
    };
    let flags = fcntl(&stdout, FcntlArg::F_GETFL).map(OFlag::from_bits_truncate);
    let is_both = flags.is_ok_and(|flags| flags & OFlag::O_ACCMODE == OFlag::O_RDWR);
    if is_both && is_null().unwrap_or(false) {
        return Err(Failure::new(Exit::Output, "standard output is closed"));
    }
    Ok(())
}

/// Prints text on standard output with all that a terminal obeys.
pub(crate) fn draw(text: &str) -> Result<(), Failure> {
    let printed = io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush());
    printed.map_err(|err| unwritable(&err))
}

pub(crate) fn unwritable(err: &io::Error) -> Failure {
    Failure::new(Exit::Output, format!("cannot write to standard output: {err}"))
}

/// Whether this is a terminal that knows of a cursor.
fn moves_cursor(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}
