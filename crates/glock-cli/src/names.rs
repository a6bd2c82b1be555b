//! Names as a terminal may show them.

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

/// Text without what a terminal would obey: labels are chosen by other clients.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect()
}
