//! `ls`, `inspect`, `force-release`, `doctor`, `bench`, `watch` without a terminal.

use crate::support::{PATIENCE, Place, lines_of};

#[test]
fn what_is_held_is_listed_for_people_and_for_programs() {
    let place = Place::new();
    for name in ["reports/a", "reports/b", "other"] {
        assert_eq!(place.output(&["acquire", name]).status, 0);
    }
    let text = place.output(&["ls", "reports/"]);
    assert_eq!(text.stdout.lines().count(), 2, "{text:?}");
    assert!(text.stdout.contains("reports/a") && text.stdout.contains("token"), "{text:?}");
    assert!(!text.stdout.contains('\x1b'), "colour where no terminal is");
    let json = place.output(&["ls", "--json"]);
    let names: Vec<String> = json
        .stdout
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["name"]
                .as_str()
                .unwrap()
                .into()
        })
        .collect();
    assert_eq!(names, ["other", "reports/a", "reports/b"]);
}

#[test]
fn only_the_hold_with_that_token_is_ended() {
    let place = Place::new();
    assert_eq!(place.output(&["acquire", "x"]).status, 0);
    let token = place.token("x");
    let wrong = place.output(&["force-release", "x", "--token", &(token + 1).to_string()]);
    assert_eq!(wrong.status, 76, "{wrong:?}");
    assert!(wrong.stderr.contains(&token.to_string()), "{wrong:?}");
    assert_eq!(place.output(&["force-release", "x", "--token", &token.to_string()]).status, 0);
    let free = place.output(&["force-release", "x", "--token", &token.to_string()]);
    assert_eq!(free.status, 76, "{free:?}");
    assert!(free.stderr.contains("free"), "{free:?}");
}

#[test]
fn a_doctor_and_a_bench_report() {
    let place = Place::new();
    let doctor = place.output(&["doctor"]);
    assert!([0, 1].contains(&doctor.status), "{doctor:?}");
    assert!(doctor.stdout.contains("shortest TTL"), "{doctor:?}");
    let bench = place.output(&["bench", "--count", "5", "--json"]);
    assert_eq!((bench.status, bench.stdout.lines().count()), (0, 2), "{bench:?}");
    assert!(bench.stdout.contains("median_us"), "{bench:?}");
}

#[test]
fn a_watch_without_a_terminal_prints_what_changes() {
    let place = Place::new();
    let mut watch = place.glock(&["watch", "--interval", "50ms", "--json"]).spawn().unwrap();
    let lines = lines_of(watch.stdout.take().unwrap());
    let path = place.path("lease").display().to_string();
    assert_eq!(place.output(&["acquire", "x", "--lease-file", &path]).status, 0);
    let line = lines.recv_timeout(PATIENCE).unwrap();
    assert!(line.contains("acquired") && line.contains("\"x\""), "{line}");
    assert_eq!(place.output(&["release", "--lease-file", &path]).status, 0);
    assert!(lines.recv_timeout(PATIENCE).unwrap().contains("ended"));
    watch.kill().unwrap();
    watch.wait().unwrap();
}
