//! Versions of servers that no lock can be trusted to.

/// A store, its first good version, and what was wrong before.
const OLDEST: &[(&str, &[u32], &str)] =
    &[("etcd", &[3, 4, 31], "an old leader revokes leases that are kept alive")];

/// Why the suite is not worth running against this version; `None` where it is.
pub(crate) fn fault(store: &str, version: &str) -> Option<String> {
    let (_, oldest, why) = OLDEST.iter().find(|(name, _, _)| *name == store)?;
    let numbers: Vec<u32> = version.split('.').map_while(|part| part.parse().ok()).collect();
    // The same was repaired in two lines.
    let between = *numbers >= [3, 5][..] && *numbers < [3, 5, 13][..];
    let bad = *numbers < **oldest || between;
    bad.then(|| format!("{store} {version} is too old: {why}; take 3.5.13 or 3.4.31"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etcd_that_revokes_live_leases_is_refused() {
        for bad in ["3.4.23", "3.4.30", "3.3.27", "3.5.0", "3.5.12"] {
            assert!(fault("etcd", bad).is_some_and(|why| why.contains(bad)), "{bad}");
        }
        for good in ["3.4.31", "3.5.13", "3.5.16", "3.6.0", "4.0.0"] {
            assert_eq!(fault("etcd", good), None, "{good}");
        }
        assert_eq!(fault("redis", "1.0"), None);
    }
}
