//! Help, completions and the manual.

use crate::support::Place;

const COMMANDS: [&str; 12] = [
    "run",
    "acquire",
    "renew",
    "release",
    "ls",
    "inspect",
    "force-release",
    "watch",
    "doctor",
    "bench",
    "completions",
    "man",
];

#[test]
fn every_command_has_help_with_an_example() {
    let place = Place::new();
    let overview = place.output(&["--help"]);
    for command in COMMANDS {
        let help = place.output(&[command, "--help"]);
        assert_eq!(help.status, 0, "{help:?}");
        let example = help.stdout.split("Example:\n").nth(1).unwrap_or_default();
        assert!(example.contains(&format!("  glock {command}")), "{help:?}");
        assert!(overview.stdout.contains(&format!("  {command} ")), "{overview:?}");
    }
    assert!(overview.stdout.contains("75   another owner"), "{overview:?}");
}

#[test]
fn completions_and_pages_are_made() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        let completions = place.output(&["completions", shell]);
        assert!(completions.status == 0 && completions.stdout.contains("force-release"), "{shell}");
    }
    assert!(place.output(&["man"]).stdout.contains(".TH glock"));
    let pages = place.path("pages");
    std::fs::create_dir(&pages).unwrap();
    assert_eq!(place.output(&["man", &pages.display().to_string()]).status, 0);
    assert_eq!(std::fs::read_dir(&pages).unwrap().count(), 1 + COMMANDS.len());
}
