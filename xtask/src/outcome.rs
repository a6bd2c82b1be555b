//! What a run of test binaries came to.

/// Cases, summed over all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    /// The names of those that failed.
    pub(crate) names: Vec<String>,
    pub(crate) ended_well: bool,
}

impl Default for Outcome {
    fn default() -> Self {
        Self { passed: 0, failed: 0, names: Vec::new(), ended_well: true }
    }
}

impl Outcome {
    /// Reads what test binaries print: lines such as `test a::b ... FAILED`, and
    /// `test result: ok. 3 passed; 0 failed; 1 ignored; ..`.
    pub(crate) fn of(said: &str) -> Self {
        let mut outcome = Self::default();
        for line in said.lines() {
            let name = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"));
            outcome.names.extend(name.map(ToOwned::to_owned));
            let Some(counts) = line.strip_prefix("test result: ") else { continue };
            for part in counts.split([';', '.']) {
                let Some((count, what)) = part.trim().split_once(' ') else { continue };
                match (count.parse::<usize>(), what) {
                    (Ok(count), "passed") => outcome.passed += count,
                    (Ok(count), "failed") => outcome.failed += count,
                    _ => {}
                }
            }
        }
        outcome
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.names.extend(other.names);
        self.ended_well &= other.ended_well;
    }

    pub(crate) fn cases(&self) -> usize {
        self.passed + self.failed
    }

    /// Why a lane that ended like this has not passed.
    pub(crate) fn fault(&self) -> Option<String> {
        match self {
            Self { failed: 1.., .. } => Some(format!("{} failed", self.failed)),
            Self { ended_well: false, .. } => Some("did not end well".to_owned()),
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
        let outcome = Outcome::of(
            "test a ... ok\ntest b::c ... FAILED\n\
             test result: ok. 14 passed; 0 failed; 2 ignored; 0 measured; finished in 0.02s\n\
             test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; finished in 1.02s\n",
        );
        assert_eq!((outcome.passed, outcome.failed, outcome.cases()), (17, 1, 18));
        assert_eq!(outcome.names, ["b::c"]);
    }

    #[test]
    fn only_a_run_without_a_gap_has_passed() {
        let good = Outcome { passed: 3, ..Outcome::default() };
        assert_eq!(good.fault(), None);
        assert!(Outcome { ended_well: false, ..good.clone() }.fault().is_some());
        assert_eq!(Outcome { failed: 1, ..good }.fault().unwrap(), "1 failed");
        assert_eq!(Outcome::default().fault().unwrap(), "ran no case");
    }
}
