//! What the tests share.
#![allow(dead_code, reason = "two test programs share it, and each uses a part")]

pub(crate) mod fixture;

use std::path::PathBuf;

/// Where the files of all tests are: all processes of a case find the same one.
pub(crate) fn directory() -> PathBuf {
    let directory = std::env::temp_dir().join("glock-sqlite-tests");
    std::fs::create_dir_all(&directory).unwrap();
    directory
}
