//! Files that a lock must not use, or cannot: refused before any harm, with the reason.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

use glock_sqlite::{
    LockError, SqliteLock,
    sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode},
};

use glock_testing::process::settles;

use crate::support::{SOON, admin::TestFile, assert_rejected, pair};

#[tokio::test]
async fn a_directory_a_missing_directory_and_a_device_are_refused() {
    let file = TestFile::new();
    let directory = file.path.parent().unwrap();
    assert_rejected(SqliteLock::open(directory).await, "it is a directory");
    assert_rejected(SqliteLock::open(file.path.join("locks.db")).await, "there is no directory");
    assert_rejected(SqliteLock::open("/dev/null").await, "it is no regular file");
    assert!(!file.path.exists());
}

#[tokio::test]
async fn a_path_that_names_no_file_is_invalid() {
    for path in ["", ":memory:", "a\0b"] {
        let refused = SqliteLock::open(path).await;
        assert!(matches!(refused, Err(LockError::Invalid { .. })), "{path:?}: {refused:?}");
    }
    let memory = "sqlite::memory:".parse::<SqliteConnectOptions>().unwrap();
    assert!(matches!(SqliteLock::new(&memory), Err(LockError::Invalid { .. })));
}

#[tokio::test]
async fn a_file_with_two_names_is_refused() {
    let (file, other) = (TestFile::new(), TestFile::new());
    pair(&file.lock().await).await;
    fs::hard_link(&file.path, &other.path).unwrap();
    for path in [&file.path, &other.path] {
        assert_rejected(SqliteLock::open(path).await, "several names");
    }
    fs::remove_file(&other.path).unwrap();
    pair(&file.lock().await).await;
    // A symbolic link leads to the same file and the same log.
    std::os::unix::fs::symlink(&file.path, &other.path).unwrap();
    let (ours, theirs) = (file.lock().await, other.lock().await);
    assert!(pair(&ours).await < pair(&theirs).await);
}

#[tokio::test]
async fn the_database_of_another_program_is_refused_and_stays_as_it_is() {
    for foreign in [
        "CREATE TABLE users (name TEXT)",
        "PRAGMA application_id = 17",
        "CREATE TABLE distributed_lock (lock_id TEXT PRIMARY KEY, token INTEGER)",
        "CREATE TABLE t (x); DROP TABLE t; PRAGMA application_id = -1",
    ] {
        let file = TestFile::new();
        file.run(foreign).await;
        let before = fs::read(&file.path).unwrap();
        assert_rejected(SqliteLock::open(&file.path).await, "another program's database");
        assert!(fs::read(&file.path).unwrap() == before, "{foreign}: the file was changed");
    }
}

#[tokio::test]
async fn a_file_of_another_form_is_refused() {
    let file = TestFile::new();
    pair(&file.lock().await).await;
    file.run("PRAGMA user_version = 99").await;
    assert_rejected(SqliteLock::open(&file.path).await, "another glock-sqlite");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_stays_as_it_is() {
    let file = TestFile::new();
    let text = "not a database, but longer than the header of one: ".repeat(40);
    fs::write(&file.path, &text).unwrap();
    assert_rejected(SqliteLock::open(&file.path).await, "no SQLite database");
    assert_eq!(fs::read_to_string(&file.path).unwrap(), text);
}

#[tokio::test]
async fn an_empty_file_and_one_that_is_missing_are_used() {
    let file = TestFile::new();
    fs::write(&file.path, "").unwrap();
    pair(&file.lock().await).await;
    let missing = TestFile::new();
    // These options say that a file that is missing is not made.
    let lock = SqliteLock::new(&SqliteConnectOptions::new().filename(&missing.path)).unwrap();
    assert!(!missing.path.exists());
    let refused = glock_sqlite::LockExt::try_hold(&lock, "x", crate::support::LONG).await;
    assert!(refused.is_err() && !missing.path.exists());
    pair(&missing.lock().await).await;
    pair(&lock).await;
}

/// A rollback journal would have readers and the writer wait for each other.
#[tokio::test]
async fn a_file_in_another_journal_mode_is_put_back() {
    let file = TestFile::new();
    pair(&file.lock().await).await;
    settles("descriptors", SOON, 0, async || file.descriptors()).await;
    file.run("PRAGMA journal_mode = DELETE").await;
    let options = file.options().journal_mode(SqliteJournalMode::Delete);
    pair(&SqliteLock::new(&options).unwrap()).await;
    let (mode,): (String,) = file.row("PRAGMA journal_mode").await;
    assert_eq!(mode, "wal");
}

const PATH: &str = "GLOCK_SQLITE_TEST_PATH";

/// Even root may not write there without its capabilities, so the attempt is made by such a process.
#[tokio::test]
async fn what_may_not_be_written_to_is_refused() {
    let file = TestFile::new();
    pair(&file.lock().await).await;
    fs::set_permissions(&file.path, Permissions::from_mode(0o444)).unwrap();
    assert_refused_without_rights(&file.path);
    fs::set_permissions(&file.path, Permissions::from_mode(0o644)).unwrap();
    pair(&file.lock().await).await;

    let directory = file.path.with_extension("d");
    fs::create_dir(&directory).unwrap();
    fs::set_permissions(&directory, Permissions::from_mode(0o555)).unwrap();
    assert_refused_without_rights(&directory.join("locks.db"));
    fs::remove_dir(&directory).unwrap();
}

fn assert_refused_without_rights(path: &Path) {
    let program = std::env::current_exe().unwrap();
    let is_root = fs::metadata("/proc/self").unwrap();
    let is_root = std::os::unix::fs::MetadataExt::uid(&is_root) == 0;
    let mut command = if is_root { Command::new("setpriv") } else { Command::new(&program) };
    if is_root {
        command.args(["--bounding-set=-all", "--inh-caps=-all"]).arg(&program);
    }
    command.args(["access::without_rights", "--exact", "--ignored", "--nocapture"]);
    let done = command.env(PATH, path).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && said.contains("1 passed"), "{said} {done:?}");
}

/// Not a test: what a process without rights does.
#[tokio::test]
#[ignore = "run by a test in a process of its own"]
async fn without_rights() {
    let Some(path) = std::env::var_os(PATH) else { return };
    assert_rejected(SqliteLock::open(path).await, "may not be written to by this user");
}
