//! The lines that `glock-servers` understands.

use std::{error::Error, fmt, str::FromStr};

/// What to do with a running server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Command {
    /// Stop it in good order.
    Stop,
    /// Start it again, on the same port.
    Start,
    /// Freeze it.
    Pause,
    /// Let it go on.
    Resume,
    /// Kill it.
    Kill,
}

/// A line that is no command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandError {
    word: String,
}

const WORDS: [(&str, Command); 5] = [
    ("stop", Command::Stop),
    ("start", Command::Start),
    ("pause", Command::Pause),
    ("resume", Command::Resume),
    ("kill", Command::Kill),
];

impl Command {
    /// Splits a line such as "stop redis7" into the command and the name of the server.
    ///
    /// # Errors
    ///
    /// When the first word is no command.
    pub fn from_line(line: &str) -> Result<(Self, &str), CommandError> {
        let (word, name) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        Ok((word.parse()?, name.trim()))
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = WORDS.iter().find(|(_, command)| command == self).map_or("", |(word, _)| word);
        f.write_str(word)
    }
}

impl FromStr for Command {
    type Err = CommandError;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let found = WORDS.iter().find(|(known, _)| *known == word).map(|(_, command)| *command);
        found.ok_or_else(|| CommandError { word: word.to_owned() })
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is no command: write stop, start, pause, resume or kill and a name",
            self.word
        )
    }
}

impl Error for CommandError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_survives_its_text_form() {
        for (word, command) in WORDS {
            assert_eq!(command.to_string(), word);
            assert_eq!(Command::from_line(&format!("{command} redis7")), Ok((command, "redis7")));
        }
    }

    #[test]
    fn a_wrong_line_lists_the_commands() {
        for line in ["", "halt redis7", "STOP redis7"] {
            let error = Command::from_line(line).unwrap_err().to_string();
            assert!(error.contains("resume or kill"), "{error}");
        }
    }
}
