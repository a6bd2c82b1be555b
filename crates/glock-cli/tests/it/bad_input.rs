//! Bad input: one clear line on standard error, and the documented status.

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt as _, process::Stdio};

use crate::support::{Ended, PATIENCE, Place, lines_of};

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
        (&["run", "x", "true"], "`--` before the command"),
        (&["run", &"x".repeat(3_000), "--", "true"], "the longest may have"),
    ] {
        assert_refused(&place.output(arguments), 64, words);
    }
}

/// What a person does who has the lease's text at hand, or forgets `--url`.
#[test]
fn a_secret_in_the_wrong_argument_is_not_said() {
    let place = Place::new();
    let lease = place.output(&["acquire", "CANARY"]).stdout.trim().to_owned();
    assert!(lease.contains("CANARY"), "a lease names its lock: {lease}");
    let file = place.path("lease").display().to_string();
    assert_eq!(place.output(&["acquire", "y", "--lease-file", &file]).status, 0);
    let url = "redis://user:CANARY@host/1";
    for (arguments, status, words) in [
        (&["release", &lease, "--lease-file", &file][..], 64, "(a lease)"),
        (&["release", "--lease-file", &lease], 66, "(a lease)"),
        (&["release", "y", &lease], 64, "unexpected argument"),
        (&["ls", "a", url], 64, "unexpected argument"),
    ] {
        assert_refused(&place.output(arguments), status, words);
    }
}

#[test]
fn bad_arguments_are_refused_in_json_where_that_was_asked_for() {
    let place = Place::new();
    let refused = place.output(&["run", "x", "--ttl", "30", "--json", "--", "true"]);
    let json: serde_json::Value = serde_json::from_str(&refused.stderr).unwrap();
    assert_eq!((refused.status, &json["exit"]), (64, &64.into()), "{json}");
    assert!(json["error"].as_str().unwrap().contains("unit"), "{json}");
}

/// The lock of a file of this machine would be another one.
#[test]
fn a_url_in_the_environment_that_is_no_text_is_refused() {
    let place = Place::new();
    let mut run = place.glock(&["run", "x", "--", "true"]);
    run.env("GLOCK_URL", OsStr::from_bytes(b"redis://h\xff"));
    assert_refused(&Ended::of(run.output().unwrap()), 64, "GLOCK_URL is not UTF-8");
}

#[test]
fn bad_urls_are_refused_without_their_secrets() {
    let place = Place::new();
    let nowhere = place.path("nowhere").display().to_string();
    let no_file = format!("redis://user:CANARY@host?password_file={nowhere}");
    for (url, status, words) in [
        (&*no_file, 66, "password_file"),
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
    let path = junk.display().to_string();
    fs::write(&junk, b"CANARY \xff").unwrap();
    assert_refused(&place.output(&["release", "--lease-file", &path]), 64, "no lease");
    fs::write(&junk, "CANARY").unwrap();
    let junk = path;
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
fn a_lease_takes_the_place_of_no_device_and_no_link() {
    let place = Place::new();
    let link = place.path("link");
    std::os::unix::fs::symlink("/dev/null", &link).unwrap();
    let refused = place.output(&["acquire", "x", "--lease-file", &link.display().to_string()]);
    assert_refused(&refused, 66, "no regular file");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(place.output(&["inspect", "x", "--json"]).json()["held"], false);
}

#[test]
fn an_empty_variable_is_as_if_it_was_not_set() {
    let place = Place::new();
    let listed = place.glock(&["ls"]).env("GLOCK_CONFIG", "").output().unwrap();
    assert_eq!(Ended::of(listed).status, 0);
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

/// The lease would be lost, and the lock held until its TTL has run out.
#[test]
fn a_lease_is_not_acquired_for_a_standard_output_that_is_closed() {
    let place = Place::new();
    let script = "exec \"$0\" acquire x >&-";
    let closed = place.shell(script).output().unwrap();
    assert_refused(&Ended::of(closed), 74, "standard output is closed");
    assert_eq!(place.output(&["inspect", "x", "--json"]).json()["held"], false);
    // A caller who writes that does not want the lease.
    let unwanted = place.shell("exec \"$0\" acquire x > /dev/null").output().unwrap();
    assert_eq!(Ended::of(unwanted).status, 0);
}

/// What only prints is of no use then; what has an effect, or a status, has that.
#[test]
fn nothing_is_printed_to_a_standard_output_that_is_closed() {
    let place = Place::new();
    let closed = |arguments: &str| {
        Ended::of(place.shell(&format!("exec \"$0\" {arguments} >&-")).output().unwrap())
    };
    for arguments in [
        "ls",
        "inspect x",
        "watch",
        "bench --count 1",
        "completions bash",
        "man",
        "--help",
        "ls --help",
    ] {
        assert_refused(&closed(arguments), 74, "standard output is closed");
    }
    for arguments in ["run x -- true", "doctor"] {
        assert_eq!(closed(arguments).status, 0);
    }
}

#[test]
fn help_that_cannot_be_printed_is_said() {
    let place = Place::new();
    for arguments in ["--help", "--version"] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let shown = place.glock(&[arguments]).stdout(Stdio::from(full)).output().unwrap();
        assert_refused(&Ended::of(shown), 74, "standard output");
    }
}

#[test]
fn a_wait_for_a_store_that_is_out_of_reach_says_so() {
    let place = Place::new();
    let mut waiter = place.glock(&["run", "x", "--", "true"]);
    waiter.env("GLOCK_URL", "redis://user:CANARY@127.0.0.1:1/?call_timeout=300ms");
    let mut waiter = waiter.spawn().unwrap();
    let line = lines_of(waiter.stderr.take().unwrap()).recv_timeout(PATIENCE).unwrap();
    assert!(line.contains("waiting for `x`") && line.contains("out of reach"), "{line}");
    assert!(!line.contains("CANARY"), "{line}");
    waiter.kill().unwrap();
    waiter.wait().unwrap();
}
