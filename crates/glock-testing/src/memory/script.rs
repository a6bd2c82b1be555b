//! `Script`: what a `MemoryLock` is to do at its next calls.

use std::collections::VecDeque;

use glock_core::{Action, Fault, toolkit::Mutex};

/// What the next call of a kind does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    Refuse,
    Fail(Fault),
    Hang,
}

#[derive(Debug, Default)]
pub(super) struct Script(Mutex<VecDeque<(Action, Step)>>);

impl Script {
    pub(super) fn push(&self, action: Action, step: Step) {
        self.0.lock().push_back((action, step));
    }

    /// Takes the first step that is meant for `action`.
    pub(super) fn next(&self, action: Action) -> Option<Step> {
        let mut steps = self.0.lock();
        let at = steps.iter().position(|(for_action, _)| *for_action == action)?;
        steps.remove(at).map(|(_, step)| step)
    }
}
