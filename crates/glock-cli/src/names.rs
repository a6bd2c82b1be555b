//! Names as a terminal may show them.

/// Text without what a terminal would obey: labels are chosen by other clients.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect()
}
