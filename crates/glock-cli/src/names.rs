//! Names as a terminal may show them.

use std::borrow::Cow;

/// What a lease's text begins with.
const LEASE: &str = "glock1:";
/// So much of a text's beginning and end is shown.
const SHOWN: usize = 150;

/// A line with its middle left out where it is long: an argument that it quotes may have any length.
pub(crate) fn shortened(text: &str) -> String {
    let length = text.chars().count();
    if length <= 2 * SHOWN {
        return text.to_owned();
    }
    let beginning: String = text.chars().take(SHOWN).collect();
    let end: String = text.chars().skip(length - SHOWN).collect();
    format!("{beginning} .. {end}")
}

/// A line that quotes what others wrote: without line ends, without what a terminal would obey, and without a
/// lease or the password of a URL, which an argument in the wrong place may be. A password may have any signs, so
/// all is left out from the scheme to the last `@`.
pub(crate) fn presentable(text: &str) -> String {
    let mut line = printable(&text.replace(['\n', '\r'], " "));
    if let (Some(scheme), Some(at)) = (line.find("://"), line.rfind('@'))
        && scheme < at
    {
        line.replace_range(scheme + "://".len()..at, "..");
    }
    line.split_inclusive(is_quote_or_blank).map(without_lease).collect()
}

fn is_quote_or_blank(char: char) -> bool {
    char.is_whitespace() || matches!(char, '`' | '\'' | '"')
}

fn without_lease(word: &str) -> Cow<'_, str> {
    let (bare, rest) = word.split_at(word.trim_end_matches(is_quote_or_blank).len());
    if bare.contains(LEASE) { format!("(a lease){rest}").into() } else { word.into() }
}

/// Text without what a terminal would obey: labels are chosen by other clients.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_no_secret_that_was_given_in_the_wrong_place() {
        for (text, shown) in [
            ("not of `glock1:x:CANARY`", "not of `(a lease)`"),
            ("--lease-file=glock1:CANARY is", "(a lease) is"),
            (
                "unexpected argument 'redis://u:CANARY@h/1' found",
                "unexpected argument 'redis://..@h/1' found",
            ),
            ("redis://:CA@NARY@h", "redis://..@h"),
            ("'redis://:CA'N A`RY@h'", "'redis://..@h'"),
            ("one\ntwo\u{1b}[2J", "one two\u{fffd}[2J"),
            ("write to a@b or https://c", "write to a@b or https://c"),
        ] {
            assert_eq!(presentable(text), shown);
        }
    }
}
