//! Bad input: one clear line on standard error, and the documented status.

use std::{fs, process::Stdio};

use crate::support::{Ended, Place};

/// One line that has these words, and no secret.
fn assert_refused(ended: &Ended, status: i32, words: &str) {
    assert_eq!(ended.status, status, "{ended:?}");
    assert_eq!(ended.stderr.trim_end().lines().count(), 1, "{ended:?}");
    assert!(ended.stderr.contains(words), "no {words:?} in {ended:?}");
    assert!(!ended.stderr.contains("CANARY"), "{ended:?}");
}

#[test]
fn bad_arguments_are_refused() {
    let place = Place::new();
    for (arguments, words) in [
        (&["run", "x", "--ttl", "30", "--", "true"][..], "unit"),
        (&["run", "x", "--ttl", "soon", "--", "true"], "ttl"),
        (&["run", "a\nb", "--", "true"], "control character"),
        (&["run", "", "--", "true"], "empty"),
        (&["run", "x"], "required"),
        (&["run", "x", "--no-wait", "--wait", "5s", "--", "true"], "cannot be used with"),
        (&["run", "x", "--ttl", "3s", "--grace", "2s", "--", "true"], "grace"),
        (&["run", "x", "--ttl", "1ms", "--", "true"], "ttl"),
        (&["fly"], "fly"),
        (&["force-release", "x", "--token", "many"], "token"),
        (&["ls", "a\nb"], "control character"),
        (&["watch", "--interval", "0s"], "interval"),
    ] {
        assert_refused(&place.output(arguments), 64, words);
    }
}

#[test]
fn bad_urls_are_refused_without_their_secrets() {
    let place = Place::new();
    for (url, status, words) in [
        ("ftp://user:CANARY@host", 64, "no store is called `ftp`"),
        ("CANARY", 64, "no scheme"),
        ("redis://user:CANARY@host:port", 64, "port"),
        ("redis://user:CANARY@host?colour=CANARY", 64, "colour"),
        ("redis://user:CANARY@127.0.0.1:1/?call_timeout=300ms", 69, "out of reach"),
        ("redis://user:CANARY@127.0.0.1:1/?call_timeout=300", 64, "call_timeout"),
    ] {
        assert_refused(&place.output(&["ls", "--url", url]), status, words);
    }
}

#[test]
fn bad_files_are_refused() {
    let place = Place::new();
    let missing = place.path("missing").display().to_string();
    assert_refused(&place.output(&["release", "--lease-file", &missing]), 66, "cannot read");
    assert_refused(&place.output(&["ls", "--config", &missing]), 66, "cannot read");
    let junk = place.path("junk");
    fs::write(&junk, "CANARY").unwrap();
    let junk = junk.display().to_string();
    assert_refused(&place.output(&["release", "--lease-file", &junk]), 64, "no lease");
    assert_refused(&place.output(&["ls", "--config", &junk]), 64, "may have the lines");
    let colour = place.path("colour");
    fs::write(&colour, "url = 'redis://:CANARY@h'\ncolour = 'CANARY'\n").unwrap();
    assert_refused(
        &place.output(&["ls", "--config", &colour.display().to_string()]),
        64,
        "may have the lines",
    );
}

#[test]
fn a_config_file_names_the_store() {
    let place = Place::new();
    let config = place.path("glock");
    fs::create_dir(&config).unwrap();
    fs::write(config.join("config.toml"), format!("url = '{}'\nttl = '1m'\n", place.url()))
        .unwrap();
    let listed = place.glock(&["acquire", "x", "--json"]).env_remove("GLOCK_URL").output().unwrap();
    assert_eq!(Ended::of(listed).json()["ttl_ms"], 60_000);
    assert_eq!(place.output(&["inspect", "x", "--json"]).json()["held"], true);
}

#[test]
fn a_closed_standard_output_is_said() {
    let place = Place::new();
    assert_eq!(
        place
            .output(&["acquire", "x", "--lease-file", &place.path("l").display().to_string()])
            .status,
        0
    );
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let listed = place.glock(&["ls"]).stdout(Stdio::from(full)).output().unwrap();
    assert_refused(&Ended::of(listed), 74, "standard output");
    // A lease that its caller does not get is released.
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let acquired = place.glock(&["acquire", "y"]).stdout(Stdio::from(full)).output().unwrap();
    assert_refused(&Ended::of(acquired), 74, "standard output");
    assert_eq!(place.output(&["inspect", "y", "--json"]).json()["held"], false);
}
