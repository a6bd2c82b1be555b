//! Which partition a key belongs to: `MurmurHash3` over its payload.

const SEED: u32 = 0x0100_0193;
/// A key's hash and type come before its payload.
const PAYLOAD: usize = 8;

/// The partition of a key, as [`string`](crate::wire::string) makes it. A request with another one locks
/// where no other client looks, so every request takes it from here.
pub(crate) fn partition_of(key: &[u8], partitions: i32) -> i32 {
    let hash = murmur3(key.get(PAYLOAD..).unwrap_or_default()).cast_signed();
    // The least number has no positive counterpart.
    hash.checked_abs().unwrap_or(0).checked_rem(partitions).unwrap_or(0)
}

fn murmur3(bytes: &[u8]) -> u32 {
    let mut hash = SEED;
    let (blocks, tail) = bytes.as_chunks::<4>();
    for block in blocks {
        hash = (hash ^ mixed(u32::from_le_bytes(*block)))
            .rotate_left(13)
            .wrapping_mul(5)
            .wrapping_add(0xe654_6b64);
    }
    let last = tail.iter().rev().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
    hash ^= mixed(last);
    hash ^= u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

fn mixed(block: u32) -> u32 {
    block.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::value::string;

    #[test]
    fn a_key_belongs_where_other_clients_put_it() {
        let long = "x".repeat(37);
        for (key, hash, partition) in [
            ("res-1", 989_367_025, 225),
            ("", 923_237_662, 11),
            ("a", 2_099_876_635, 73),
            ("hello world", 1_531_991_486, 31),
            ("schl\u{fc}ssel", -667_223_263, 125),
            ("\u{65e5}\u{672c}", 1_994_802_223, 220),
            ("\u{1f512}lock", 178_850_320, 76),
            ("orders/42", -549_441_009, 162),
            (&*long, -400_593_742, 187),
        ] {
            let data = string(key);
            assert_eq!(murmur3(&data[PAYLOAD..]).cast_signed(), hash, "{key}");
            assert_eq!(partition_of(&data, 271), partition, "{key}");
        }
    }

    #[test]
    fn no_key_and_no_count_is_out_of_range() {
        for count in [1, 2, 271, i32::MAX] {
            for key in [&b""[..], b"short", &[0xff; 64]] {
                assert!((0..count).contains(&partition_of(key, count)));
            }
        }
        assert_eq!(partition_of(&string("a"), 0), 0);
    }
}
