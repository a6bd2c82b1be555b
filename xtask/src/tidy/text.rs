//! Rules of all text: nothing of one machine, and nothing of one way to the packages.

use crate::tidy::tree::Tree;

/// Put together here, so that this file does not break its own rule.
const PLACES: [&str; 3] = [concat!("/", "home/"), concat!("/", "root/"), concat!("/", "work/")];

const HOSTS: [&str; 9] = [
    concat!("static.", "crates.io"),
    concat!("index.", "crates.io"),
    concat!("pypi", ".org"),
    concat!("pythonhosted", ".org"),
    concat!("npmjs", ".org"),
    concat!("debian", ".org"),
    concat!("maven", ".org"),
    concat!("maven.", "apache.org"),
    concat!("proxy.", "golang.org"),
];

pub(crate) fn no_place_of_this_machine(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    // Cargo writes the lock file, and writes the same one everywhere.
    for (path, text) in tree.files().filter(|(path, _)| !path.ends_with("Cargo.lock")) {
        for (index, line) in text.lines().enumerate() {
            if let Some(found) = PLACES.iter().chain(&HOSTS).find(|found| names(line, found)) {
                faults.push(format!("{path}:{}: {found} is one machine's matter", index + 1));
            }
        }
    }
    faults
}

/// A path of that name below another one is something else.
fn names(line: &str, found: &str) -> bool {
    line.match_indices(found).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !found.starts_with('/')
            || before.is_none_or(|letter| !letter.is_alphanumeric() && letter != '.')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_one_machine() {
        let line = format!("see {}me/x", PLACES[0]);
        let tree = Tree::of(&[("a.md", &line), ("b.md", "see ./homestead and a/home/b, /usr/lib")]);
        let faults = no_place_of_this_machine(&tree);
        assert!(faults.len() == 1 && faults[0].starts_with("a.md:1"), "{faults:?}");
    }

    #[test]
    fn a_host_of_packages() {
        let line = format!("\n# from https://{}/simple", HOSTS[2]);
        let tree =
            Tree::of(&[("a.sh", &line), ("Cargo.lock", &line), ("b.md", "https://docs.rs/redis")]);
        let faults = no_place_of_this_machine(&tree);
        assert!(faults.len() == 1 && faults[0].starts_with("a.sh:2"), "{faults:?}");
    }
}
