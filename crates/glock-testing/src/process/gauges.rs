//! What this process uses now.

use std::fs;

use tokio::runtime::Handle;

/// Descriptors that this process has open: files, sockets, pipes.
///
/// # Panics
///
/// Where there is no `/proc/self/fd`, as on systems other than Linux: a leak test that counts nothing would always pass.
pub fn open_descriptors() -> usize {
    match fs::read_dir("/proc/self/fd") {
        // One of them is the directory that is being read.
        Ok(entries) => entries.count() - 1,
        Err(err) => panic!("cannot count descriptors: /proc/self/fd: {err}"),
    }
}

/// Memory of this process that is in RAM.
///
/// # Panics
///
/// Where `/proc/self/status` does not say.
pub fn resident_bytes() -> u64 {
    let status = match fs::read_to_string("/proc/self/status") {
        Ok(status) => status,
        Err(err) => panic!("cannot tell the memory in use: /proc/self/status: {err}"),
    };
    let kibibytes = status.lines().find_map(|line| {
        let size = line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?;
        size.parse::<u64>().ok()
    });
    match kibibytes {
        Some(kibibytes) => kibibytes * 1024,
        None => panic!("cannot tell the memory in use: /proc/self/status has no VmRSS"),
    }
}

/// Tasks of the current runtime that have not ended; what runs in `block_on` is none.
///
/// # Panics
///
/// Outside a runtime.
pub fn alive_tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}
