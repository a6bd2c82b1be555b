//! `Asking`: the task that asks the blocking queries of a watch.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::wait::Shared;

/// The task that asks. Should its runtime end, whoever waits on another one looks for himself.
struct Asking {
    shared: Arc<Shared>,
    which: u64,
}

/// Sees to it that the query runs and covers `key`.
pub(crate) fn attend(shared: &Arc<Shared>, key: &str, sleeps: bool) {
    let mut state = shared.state();
    if state.task.is_some() {
        let covered = state.prefix.as_ref().is_some_and(|prefix| key.starts_with(&**prefix));
        if !covered || sleeps && state.dozes {
            shared.stirred.notify_one();
        }
    } else if let Ok(runtime) = Handle::try_current() {
        state.prefix = None;
        state.tasks += 1;
        let which = state.tasks;
        state.task = Some((which, None));
        drop(state);
        // Not with the state in hand: a runtime that is being shut down drops the task at once.
        let asking = Asking { shared: Arc::clone(shared), which };
        let task = runtime.spawn(async move { asking.shared.run().await });
        if let Some((asks, handle)) = &mut shared.state().task
            && *asks == which
        {
            *handle = Some(task.abort_handle());
        }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        // Nobody else has begun to ask meanwhile.
        if state.task.as_ref().is_some_and(|(which, _)| *which == self.which) {
            state.task = None;
        }
        drop(state);
        self.shared.sleepers.wake_all();
        self.shared.holds.wake_all();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::runtime::Runtime;

    use crate::{ConsulClient, wait::Watch};

    #[test]
    fn a_runtime_that_is_shut_down_is_no_reason_to_wait_for_oneself() {
        let client = ConsulClient::new("http://127.0.0.1:1").unwrap();
        let watch = Watch::new(client, Duration::from_secs(5));
        let runtime = Runtime::new().unwrap();
        let handle = runtime.handle().clone();
        runtime.shutdown_background();
        let _entered = handle.enter();
        // Each begins a task anew, which is dropped at once.
        for _ in 0..3 {
            drop(watch.sleeper("x"));
        }
    }
}
