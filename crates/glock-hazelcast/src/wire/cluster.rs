//! What the reply to a login says of the cluster.

use crate::wire::{
    frame::{BEGIN_STRUCTURE, END_STRUCTURE, Frames, IS_NULL},
    message::{Message, next_text, skip_structure},
};

/// What the reply to a login says of the cluster. Older members say less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ClusterInfo {
    pub(crate) version: Option<Version>,
    /// How many members keep data. Since Hazelcast 5.4.
    pub(crate) members: Option<usize>,
}

/// The first two numbers of a member's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) u16, pub(crate) u16);

/// Where a member's entry says whether it keeps data: after its id.
const IS_LITE: usize = 17;

impl ClusterInfo {
    /// What can be read. Nothing depends on it, so what cannot be read is no failure.
    pub(crate) fn read(login: &Message) -> Self {
        let mut frames = login.parameters();
        // The member's address.
        match frames.next() {
            Some(frame) if frame.has(BEGIN_STRUCTURE) => skip_structure(&mut frames),
            Some(frame) if frame.has(IS_NULL) => {}
            _ => return Self::default(),
        }
        let version = next_text(&mut frames).ok().and_then(Version::parse);
        // Ports of threads and a token, which this client does not use.
        let _ = (frames.next(), frames.next());
        Self { version, members: count_of_members(&mut frames) }
    }
}

fn count_of_members(frames: &mut Frames<'_>) -> Option<usize> {
    frames.next().filter(|frame| frame.has(BEGIN_STRUCTURE))?;
    let mut members = 0;
    loop {
        let frame = frames.next()?;
        if frame.has(END_STRUCTURE) {
            return Some(members);
        }
        let fixed = frames.next().filter(|_| frame.has(BEGIN_STRUCTURE))?.content;
        members += usize::from(*fixed.get(IS_LITE)? == 0);
        skip_structure(frames);
    }
}

impl Version {
    /// Such as `5.4.0` or `5.5.0-SNAPSHOT`.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.').map(|part| part.parse().ok());
        Some(Self(parts.next()??, parts.next()??))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_its_first_two_numbers() {
        assert_eq!(Version::parse("5.4.0"), Some(Version(5, 4)));
        assert_eq!(Version::parse("5.10.0-SNAPSHOT"), Some(Version(5, 10)));
        assert!(Version(5, 10) > Version(5, 4) && Version(4, 9) < Version(5, 0));
        for other in ["", "5", "x.1", "5.-1"] {
            assert_eq!(Version::parse(other), None, "{other}");
        }
    }
}
