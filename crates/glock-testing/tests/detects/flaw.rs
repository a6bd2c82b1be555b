//! `Flaw`: the bugs that can be planted into the toy store and its lock.

use crate::flaws::flaws;

/// A case, and the bugs that it finds, each with words of the failure: it is to fail for that
/// reason and no other. A `|` stands between words where it is a matter of time which come first.
pub(crate) type Row = (&'static str, &'static [(Flaw, &'static str)]);

flaws! {
    // Exclusion: the store.
    /// A client with the holder's label is granted the lock again.
    GrantsToTheSameHolder,
    /// A release answers that it was done, and keeps the record.
    ReleaseKeepsRecord,
    /// The first record of a lock is looked for and written in two steps.
    FirstInsertRaces,
    /// Any grant is decided and written in two steps.
    GrantRaces,

    // Expiry: the store.
    /// A lease never runs out.
    NeverExpires,
    /// A lease runs out after half its TTL.
    ExpiresEarly,
    /// A lease runs out after eight TTLs.
    ExpiresLate,

    // Ownership: the store, and a client that knows better than the store.
    /// A release does not look at the owner.
    ReleaseUnchecked,
    /// A renewal does not look at the owner.
    RenewUnchecked,
    /// The beginning of an owner token is good enough.
    OwnerByPrefix,
    /// An owner token with something behind it is good enough.
    OwnerCutOff,
    /// An owner token in other letters is good enough.
    OwnerCaseFolded,
    /// A renewal brings a lease back that ran out.
    RenewRevives,
    /// A renewal takes the lock if it is free.
    RenewRecreates,
    /// A release ends a lease that ran out, as if it still held.
    ReleaseAlwaysOk,
    /// A renewal succeeds, whatever became of the hold.
    RenewAlwaysOk,
    /// A client refuses leases that it did not get itself.
    OnlyOwnLeases,
    /// A client calls an owner token of another form a failure of the store.
    ForeignTokenIsRejected,

    // Renewal.
    /// A renewal changes nothing in the store.
    RenewsNothing,
    /// Only the first renewal of a hold does anything.
    RenewsOnce,
    /// A renewal makes a new owner token and keeps it to itself.
    RenewalRotatesOwner,
    /// A renewal for less ends the old lease early.
    RenewShortens,
    /// A renewal is a release and an acquire.
    RenewsByAcquiring,
    /// A renewal is answered before the store has.
    RenewsBlindly,
    /// A renewal that is not answered gives the lease some milliseconds more, once.
    GraceWithoutAnswer,
    /// The client renews what it was granted until it is released.
    ClientRenews,
    /// The client renews once more after the lock was released.
    RenewalOutlivesRelease,

    // Fencing: the store.
    /// A lock's counter goes with its record.
    TokenRestartsOnRelease,
    /// A lock's counter goes with a lease that ran out.
    TokenRestartsOnExpiry,
    /// A lock's counter begins again when all about the lock is lost.
    TokenRestartsWhenForgotten,
    /// Tokens are random.
    TokensAreRandom,
    /// Tokens are the time in seconds.
    TokensAreSeconds,
    /// A renewal changes the token.
    TokenChangesOnRenewal,

    // Waiting.
    /// The store notifies no client of a release.
    NoWakeUps,
    /// The store notifies of a release before it is one.
    WakesTooEarly,
    /// The store notifies one client of a release, always the same.
    WakesOneClient,
    /// A sleeper looks every two seconds, and is woken by nothing.
    PollsInsteadOfListening,
    /// A sleeper does not look at the lock.
    SleepsWithoutLooking,
    /// A sleeper looks at the lock and then subscribes.
    SubscribesAfterLook,
    /// A sleeper does not know when the holder's lease runs out.
    SleepsThroughExpiry,
    /// A sleeper reckons when it is to wake up, as if that always came.
    WaitOverflows,
    /// A sleeper sleeps until it is woken, however little time it has.
    WaitIgnoresMax,
    /// All waiters of a client ask at once.
    NoQueue,
    /// A waiter that is dropped stays in the queue.
    WaiterStaysQueued,
    /// The order of one client's waiters is claimed to be the order of all.
    ClaimsStoreOrder,

    // The queue: the store.
    /// No bug: the store keeps the queue.
    SoundQueue,
    /// A try is granted a free lock that a waiter has its turn for.
    TryBarges,
    /// The waiter that came last is served first.
    ServesLastFirst,
    /// A turn lasts until it is used, whatever became of the client.
    NeverPassesOn,
    /// A waiter that leaves keeps its place and its turn.
    KeepsCancelledPlaces,
    /// A heartbeat does not say that a place is gone.
    LostPlaceStaysLost,
    /// The turn of one waiter wakes all of them.
    WakesAllWaiters,

    // Cancellation and unknown outcomes: the client.
    /// Whatever becomes of an acquire, it is not undone.
    AcquireNotUndone,
    /// A release whose caller goes away stops where it is.
    ReleaseStopsHalfWay,
    /// Each acquire leaves a task behind.
    LeaksTasks,
    /// One wait in twenty leaves a task behind when it is dropped.
    DropLeavesTask,
    /// One wait in twenty leaves a connection behind when it is dropped.
    DropLeavesConnection,
    /// Each refused acquire leaves a session in the store.
    LeaksSessions,
    /// A hold leaves its session in the store.
    LeaksEndedSessions,
    /// After a cut, the acquire is sent again with another token, and the first is forgotten.
    NewTokenOnRetry,
    /// After a cut, the acquire is sent again with the same token.
    SameTokenOnRetry,
    /// An acquire without an answer is undone at once, and never again.
    UndoneOnce,
    /// After a cut, the acquire fails and is sent again in the background.
    RetriesInBackground,
    /// The end of a reply that was cut off is not missed.
    TakesHalfReplies,
    /// The store carries out a request of which it has only a part.
    RunsHalfRequests,
    /// What a cut made uncertain is called certain: nothing was changed.
    CutIsUnavailable,
    /// A release that finds nothing after a cut was not held.
    CutReleaseIsNotHeld,
    /// A release that fails is called done.
    CutReleaseIsOk,
    /// A release that is cut is done again by force.
    CutReleaseIsForced,
    /// A renewal that fails was not held.
    CutRenewalIsNotHeld,
    /// The deadline counts from the reply.
    DeadlineFromReply,
    /// The deadline of a renewal counts from the reply.
    RenewedDeadlineFromReply,

    // Ids, namespaces and limits: the client.
    /// Ids lose their capitals.
    IdsInLowerCase,
    /// Ids become capitals.
    IdsInUpperCase,
    /// Ids lose blanks at their ends.
    IdsTrimmed,
    /// Ids are resolved as paths are.
    IdsArePaths,
    /// Ids are decoded as those of a URL are.
    IdsPercentDecoded,
    /// Ids lose what is not ASCII.
    IdsInAscii,
    /// Ids become numbers of eight bits.
    IdsHashed,
    /// Ids are cut off before their longest.
    IdsCutOff,
    /// Accents are composed.
    IdsNormalized,
    /// A release ends all holds whose ids begin as this one.
    ReleasesByPrefix,
    /// Every namespace is the same.
    NamespacesIgnored,
    /// A namespace and an id are joined as if neither could have a colon.
    NamespaceJoinedPlainly,
    /// No TTL is refused.
    TtlUnchecked,
    /// No TTL of a renewal is refused.
    RenewedTtlUnchecked,
    /// TTLs are rounded down.
    TtlRoundedDown,
    /// The longest TTL is refused.
    TtlMaxRefused,
    /// TTLs are cut off at 32 bits.
    TtlCutOff,

    // What is shown.
    /// No holder is shown.
    HolderNotShown,
    /// The holder's label loses what is not ASCII.
    LabelInAscii,
    /// Twice what is left is shown.
    ShowsMoreThanIsLeft,
    /// A holder whose lease ran out is still shown.
    ShowsTheExpired,
    /// `Debug` shows the owner tokens of what is held.
    OwnerInDebug,
    /// The label shows the owner token.
    OwnerInLabel,
    /// `Debug` shows the password.
    PasswordInDebug,
    /// An error shows the password.
    PasswordInError,

    // What an operator sees and does.
    /// A listing ends with its first page.
    ListsOnePage,
    /// A listing leaves one hold out between two pages.
    SkipsBetweenPages,
    /// A page may be as long as it likes.
    PageMaxIgnored,
    /// A listing is of all ids, whatever the prefix.
    ListPrefixIgnored,
    /// A `*` in a prefix stands for anything.
    ListPrefixIsPattern,
    /// A forced release ends whatever hold there is.
    ForceIgnoresToken,
    /// A forced release ends older holds too.
    ForceTakesOlderHolds,
    /// A forced release is said to be done, and is not.
    ForceKeepsRecord,
    /// A forced release wakes no waiter.
    ForceDoesNotWake,
    /// A forced release whose caller goes away stops where it is.
    ForceStopsHalfWay,
    /// A forced release keeps the lock from its next holder: the token begins again.
    ForceRestartsToken,
    /// A server that cannot be reached has nothing to warn of, and no locks.
    OutageIsNothingFound,
    /// A warning has no code.
    WarningWithoutCode,

    // Round trips, connections and faults: the client.
    /// An acquire looks first.
    LooksBeforeAcquiring,
    /// A renewal looks first.
    LooksBeforeRenewing,
    /// A release looks first.
    LooksBeforeReleasing,
    /// An acquire looks at the same time, on another connection.
    LooksBesideAcquiring,
    /// An acquire and a look are sent at once, on one connection.
    LooksPipelined,
    /// A sleeper looks again five times a second.
    Polls,
    /// Every sleeper has a connection.
    ConnectionPerWaiter,
    /// The wake-up connection outlives its client.
    ConnectionOutlivesClient,
    /// A closed port is an unknown outcome.
    ClosedPortIsUnknown,
    /// A closed port is tried again without end.
    ConnectsForEver,
    /// A wrong password may be right later.
    WrongPasswordIsUnavailable,
    /// No call has a time limit.
    NoTimeLimit,
    /// A sleeper's look has no time limit.
    WaitHasNoTimeLimit,
    /// A broken connection is found out by a call, which then fails.
    NoRetry,
    /// A connection that is silent is waited for as long as the call lasts.
    AttemptTakesWholeCall,
    /// A store that is silent or gone is called one that refuses.
    OutageIsRejected,
    /// A drain counts nothing.
    DrainsAtOnce,
    /// A connection whose answer was not waited for is never replaced.
    StuckCallBlocks,
    /// A broken connection stays broken.
    NeverReconnects,
    /// A broken wake-up connection stays broken.
    NeverListensAgain,
    /// What a wake-up connection missed while it was broken stays missed.
    MissesWhatItMissed,
}
