//! Keys and values as members keep them: a hash, a type, and what they are of.

const STRING: i32 = -11;
const LONG: i32 = -8;
/// The hash, which members make themselves, and the type.
const HEADER: usize = 8;

/// A text as a key or value.
pub(crate) fn string(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    let mut bytes = header(STRING, 4 + text.len());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// A number as a value.
pub(crate) fn long(number: i64) -> Vec<u8> {
    let mut bytes = header(LONG, 8);
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes
}

/// The text in a key or value, if it is one.
pub(crate) fn text(bytes: &[u8]) -> Option<&str> {
    let (header, rest) = bytes.split_at_checked(HEADER)?;
    let (length, text) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let is_text = header[4..] == STRING.to_be_bytes() && text.len() == length;
    str::from_utf8(text).ok().filter(|_| is_text)
}

fn header(kind: i32, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + length);
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_other_clients_write_them() {
        assert_eq!(string("res-1"), b"\0\0\0\0\xff\xff\xff\xf5\0\0\0\x05res-1");
        assert_eq!(long(1), b"\0\0\0\0\xff\xff\xff\xf8\0\0\0\0\0\0\0\x01");
    }

    #[test]
    fn a_text_is_read_back_and_nothing_else_is() {
        for written in ["", "a", "\u{1f512}"] {
            assert_eq!(text(&string(written)), Some(written));
        }
        let mut longer = string("ab");
        longer.push(b'c');
        for other in [&b""[..], b"\0\0\0\0\xff\xff\xff\xf5", &long(1), &longer, &longer[..12]] {
            assert_eq!(text(other), None, "{other:?}");
        }
    }
}
