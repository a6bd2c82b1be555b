//! What a failure between this client and the members means for a lock.

use glock_core::{Action, Fault, LockError, backend};

use crate::wire::{HazelcastError, code};

/// What the failure means for the lock.
pub(crate) fn fault(err: &HazelcastError) -> Fault {
    match err {
        HazelcastError::NotSent(_) => Fault::Unavailable,
        HazelcastError::ReplyLost(_) | HazelcastError::UnexpectedReply(_) => Fault::Unknown,
        HazelcastError::Refused(_)
        | HazelcastError::NoCpSubsystem(_)
        | HazelcastError::UnsafeMode
        | HazelcastError::NoListing(_)
        | HazelcastError::SessionTtl(_) => Fault::Rejected,
        HazelcastError::Server { code, .. } => of_code(*code),
    }
}

fn of_code(code: i32) -> Fault {
    match code {
        code::AUTHENTICATION
        | code::SECURITY
        | code::ACCESS_CONTROL
        | code::LOGIN
        | code::UNSUPPORTED
        | code::ILLEGAL_ARGUMENT => Fault::Rejected,
        // The member that received it did not carry it out, and another one, or the same one later, will.
        code::CALLER_NOT_MEMBER
        | code::PARTITION_MIGRATING
        | code::SPLIT_BRAIN_PROTECTION
        | code::RETRYABLE
        | code::TARGET_NOT_MEMBER
        | code::WRONG_TARGET
        | code::TARGET_NOT_REPLICA
        | code::CANNOT_REPLICATE => Fault::Unavailable,
        // A member that shuts down, a leader that was deposed: what they had begun may go on elsewhere.
        _ => Fault::Unknown,
    }
}

/// The failure of a request that may have changed the lock.
pub(crate) fn during(err: HazelcastError, action: Action) -> LockError {
    let looks = matches!(action, Action::Inspect | Action::Wait | Action::List | Action::Preflight);
    let fault = match &err {
        // A look changes nothing, and the next one would get the same reply.
        HazelcastError::UnexpectedReply(_) if looks => Fault::Rejected,
        err => fault(err),
    };
    LockError::backend(backend::HAZELCAST, action, fault, err)
}

/// The failure of a request that came before the one that changes the lock, or changes nothing: the lock
/// is as it was.
pub(crate) fn before(err: HazelcastError, action: Action) -> LockError {
    let fault = match &err {
        // The member is not Hazelcast, and will not be the next time.
        HazelcastError::UnexpectedReply(_) => Fault::Rejected,
        err => match fault(err) {
            Fault::Unknown => Fault::Unavailable,
            fault => fault,
        },
    };
    LockError::backend(backend::HAZELCAST, action, fault, err)
}

/// Whether the member says that this owner does not have the lock.
pub(crate) fn is_not_owner(err: &HazelcastError) -> bool {
    err.code() == Some(code::ILLEGAL_MONITOR_STATE)
}

/// Whether the owner's CP session is over, and all that it had with it.
pub(crate) fn is_session_over(err: &HazelcastError) -> bool {
    matches!(err.code(), Some(code::SESSION_EXPIRED | code::LOCK_OWNERSHIP_LOST))
}

/// Whether the CP group is another one now.
pub(crate) fn is_group_gone(err: &HazelcastError) -> bool {
    err.code() == Some(code::GROUP_DESTROYED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(code: i32) -> HazelcastError {
        HazelcastError::server(code, b"java.lang.Exception", None)
    }

    #[test]
    fn what_may_have_happened_is_unknown() {
        for (code, expected) in [
            (3, Fault::Rejected),
            (61, Fault::Rejected),
            (23, Fault::Rejected),
            (42, Fault::Unavailable),
            (39, Fault::Unavailable),
            (46, Fault::Unavailable),
            (19, Fault::Unknown),
            (33, Fault::Unknown),
            (38, Fault::Unknown),
            (52, Fault::Unknown),
            (80, Fault::Unknown),
            (91, Fault::Unknown),
            (-1, Fault::Unknown),
        ] {
            let err = during(server(code), Action::Acquire);
            assert_eq!(err.fault(), Some(expected), "{code}");
        }
        let lost = during(HazelcastError::ReplyLost("x".into()), Action::Release);
        assert_eq!(lost.fault(), Some(Fault::Unknown));
        let unsent = || HazelcastError::NotSent("x".into());
        assert_eq!(during(unsent(), Action::Release).fault(), Some(Fault::Unavailable));
        // Its connection may have ended with the request before it.
        let beside = during(unsent().after_the_first(), Action::Acquire);
        assert_eq!(beside.fault(), Some(Fault::Unknown));
    }

    #[test]
    fn before_the_lock_was_touched_nothing_is_unknown() {
        assert_eq!(before(server(80), Action::Acquire).fault(), Some(Fault::Unavailable));
        assert_eq!(before(server(64), Action::Acquire).fault(), Some(Fault::Rejected));
        let noise = HazelcastError::unexpected("noise");
        assert_eq!(before(noise, Action::Acquire).fault(), Some(Fault::Rejected));
        for (action, expected) in
            [(Action::Acquire, Fault::Unknown), (Action::Inspect, Fault::Rejected)]
        {
            let noise = HazelcastError::unexpected("noise");
            assert_eq!(during(noise, action).fault(), Some(expected));
        }
    }
}
