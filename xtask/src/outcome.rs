//! What a run of `cargo test` came to.

/// Cases, summed over all test binaries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
    pub(crate) ignored: u32,
}

impl Outcome {
    /// Adds what a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; ..` says.
    pub(crate) fn add(&mut self, line: &str) {
        let Some(rest) = line.trim().strip_prefix("test result: ") else { return };
        let counts = rest.split_once(". ").map_or("", |(_, counts)| counts);
        for part in counts.split("; ") {
            let Some((count, what)) = part.trim().split_once(' ') else { continue };
            let Ok(count) = count.parse::<u32>() else { continue };
            match what {
                "passed" => self.passed += count,
                "failed" => self.failed += count,
                "ignored" => self.ignored += count,
                _ => {}
            }
        }
    }

    pub(crate) fn cases(self) -> u32 {
        self.passed + self.failed
    }

    /// Why a suite that ended like this has not passed.
    pub(crate) fn fault(self, ended_well: bool) -> Option<String> {
        match self {
            Self { failed: 1.., .. } => Some(format!("{} failed", self.failed)),
            _ if !ended_well => Some("did not end well".to_owned()),
            Self { ignored: 1.., .. } => Some(format!("{} ignored", self.ignored)),
            Self { passed: 0, .. } => Some("ran no case".to_owned()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_all_binaries_are_summed() {
        let mut outcome = Outcome::default();
        outcome.add("test a ... ok");
        outcome.add("test result: ok. 14 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.02s");
        outcome.add("test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.02s");
        assert_eq!(outcome, Outcome { passed: 17, failed: 1, ignored: 2 });
        assert_eq!(outcome.cases(), 18);
    }

    #[test]
    fn only_a_run_without_a_gap_has_passed() {
        let good = Outcome { passed: 3, failed: 0, ignored: 0 };
        assert_eq!(good.fault(true), None);
        assert!(good.fault(false).is_some());
        assert_eq!(Outcome { failed: 1, ..good }.fault(false).unwrap(), "1 failed");
        assert_eq!(Outcome { ignored: 2, ..good }.fault(true).unwrap(), "2 ignored");
        assert_eq!(Outcome::default().fault(true).unwrap(), "ran no case");
    }
}
