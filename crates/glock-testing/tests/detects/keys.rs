//! Keys: how a namespace and an id become one, reversibly; and how they should not.

use std::fmt::Write;

use glock_core::LockId;

use crate::flaw::Flaw;

/// What every key of a namespace begins with, and no other key.
pub(crate) fn prefix(flaw: Flaw, namespace: &str) -> String {
    match flaw {
        Flaw::NamespacesIgnored => "00/".into(),
        Flaw::NamespaceJoinedPlainly => hex(&format!("{namespace}:")),
        _ => format!("{}/", hex(namespace)),
    }
}

pub(crate) fn key(flaw: Flaw, namespace: &str, id: &LockId) -> String {
    format!("{}{}", prefix(flaw, namespace), hex(&spoiled(flaw, id.as_str())))
}

/// The id, as long as nothing is wrong.
fn spoiled(flaw: Flaw, id: &str) -> String {
    match flaw {
        Flaw::IdsInLowerCase => id.to_lowercase(),
        Flaw::IdsInUpperCase => id.to_uppercase(),
        Flaw::IdsTrimmed => id.trim().into(),
        Flaw::IdsArePaths => {
            let parts = id.split('/').filter(|part| !matches!(*part, "" | "."));
            parts.collect::<Vec<_>>().join("/")
        }
        Flaw::IdsPercentDecoded => id.replace("%2F", "/").replace("%7B", "{").replace("%25", "%"),
        Flaw::IdsInAscii => id.replace(|c: char| !c.is_ascii(), "?"),
        Flaw::IdsHashed => {
            let hash = |hash: u8, byte: u8| hash.wrapping_mul(31).wrapping_add(byte);
            id.bytes().fold(0, hash).to_string()
        }
        Flaw::IdsCutOff => id.chars().take(254).collect(),
        Flaw::IdsNormalized => id.replace("e\u{301}", "\u{e9}"),
        _ => id.into(),
    }
}

pub(crate) fn hex(text: &str) -> String {
    text.bytes().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Nothing if it is no text in hexadecimal.
pub(crate) fn unhex(hex: &str) -> Option<String> {
    let digits: Option<Vec<u32>> = hex.chars().map(|digit| digit.to_digit(16)).collect();
    let byte = |pair: &[u32]| u8::try_from(pair.iter().fold(0, |byte, digit| byte << 4 | digit));
    let bytes: Result<Vec<u8>, _> = digits?.chunks(2).map(byte).collect();
    String::from_utf8(bytes.ok()?).ok()
}
