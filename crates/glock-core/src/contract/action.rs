//! `Action`: what a caller does with a lock, as logs, spans and metrics name it.

use std::fmt;

/// What a caller does with a lock.
///
/// Not `#[non_exhaustive]`: a new action should show up in every `match`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Taking the lock.
    Acquire,
    /// Extending a lease.
    Renew,
    /// Ending a lease early.
    Release,
    /// Sleeping until the lock may be free.
    Wait,
    /// Looking at who holds the lock.
    Inspect,
    /// Making what the store needs: tables, scripts.
    Prepare,
    /// Listing what is held.
    List,
    /// Ending another client's hold.
    ForceRelease,
    /// Looking at how the server is set up.
    Preflight,
}

impl Action {
    /// The verb: `"acquire"`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Acquire => "acquire",
            Self::Renew => "renew",
            Self::Release => "release",
            Self::Wait => "wait",
            Self::Inspect => "inspect",
            Self::Prepare => "prepare",
            Self::List => "list",
            Self::ForceRelease => "force_release",
            Self::Preflight => "preflight",
        }
    }

    /// The verb once it is done: `"acquired"`.
    pub const fn done(self) -> &'static str {
        match self {
            Self::Acquire => "acquired",
            Self::Renew => "renewed",
            Self::Release => "released",
            Self::Wait => "waited",
            Self::Inspect => "inspected",
            Self::Prepare => "prepared",
            Self::List => "listed",
            Self::ForceRelease => "force_released",
            Self::Preflight => "checked",
        }
    }

    /// What is done, for a sentence: `"acquire the lock"`.
    pub const fn phrase(self) -> &'static str {
        match self {
            Self::Acquire => "acquire the lock",
            Self::Renew => "renew the lock",
            Self::Release => "release the lock",
            Self::Wait => "wait for the lock",
            Self::Inspect => "inspect the lock",
            Self::Prepare => "prepare the lock",
            Self::List => "list the locks",
            Self::ForceRelease => "end the hold of the lock",
            Self::Preflight => "check the server",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_go_package_s_action_names_are_kept() {
        let names =
            [Action::Acquire, Action::Renew, Action::Release].map(|a| (a.as_str(), a.done()));
        assert_eq!(names, [("acquire", "acquired"), ("renew", "renewed"), ("release", "released")]);
    }
}
