//! The runtime on which a command's requests are made.

use crate::exit::{Exit, Failure};

/// Runs `work` to its end on one thread.
///
/// The process ends then: what a driver's task still does is of no use to it.
pub(crate) fn block_on(work: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|err| Failure::new(Exit::Store, format!("cannot start: {err}")))?;
    runtime.block_on(work)
}
