//! The transactions that a lock is made of, and what etcd replies to them.

use etcd_client::{
    Compare, CompareOp, DeleteOptions, GetOptions, KeyValue, PutOptions, ResponseHeader, SortOrder,
    SortTarget, Txn, TxnOp, TxnOpResponse, TxnResponse,
};
use glock_core::{FencingToken, Holder};

use crate::schema::{Range, is_of, label};

/// Takes a lock whose range has no key. If it has one: which is the first.
pub(crate) fn acquire(range: &Range, key: &str, value: &str, lease: i64) -> Txn {
    Txn::new()
        .when([is_empty(range)])
        .and_then([put(key, value, lease)])
        .or_else([get_first(range)])
}

fn is_empty(range: &Range) -> Compare {
    Compare::create_revision(range.start.clone(), CompareOp::Equal, 0).with_range(range.end.clone())
}

/// The reply to [`acquire`].
pub(crate) enum AcquireReply {
    Granted(FencingToken),
    Held(Option<Box<Holder>>),
}

impl AcquireReply {
    pub(crate) fn of(reply: &TxnResponse) -> Self {
        if reply.succeeded() {
            return Self::Granted(fence(revision(reply.header())));
        }
        Self::Held(kvs(reply, 0).first().map(|kv| Box::new(holder(kv))))
    }
}

/// Deletes the key, if it has this value.
pub(crate) fn release(key: &str, value: &[u8]) -> Txn {
    let delete = TxnOp::delete(key, Some(DeleteOptions::new().with_prev_key()));
    Txn::new()
        .when([Compare::value(key, CompareOp::Equal, value)])
        .and_then([delete])
        .or_else([TxnOp::get(key, None)])
}

/// The reply to [`release`].
pub(crate) enum ReleaseReply {
    /// The key is gone, and was on this lease.
    Released(i64),
    /// A client of another label took it: the key has this value.
    OtherLabel(Vec<u8>),
    NotHeld,
}

impl ReleaseReply {
    pub(crate) fn of(reply: &TxnResponse, secret: &str) -> Self {
        match kvs(reply, 0).first() {
            Some(kv) if reply.succeeded() => Self::Released(kv.lease()),
            Some(kv) if is_of(kv.value(), secret) => Self::OtherLabel(kv.value().to_vec()),
            _ => Self::NotHeld,
        }
    }
}

/// Puts a waiter's key behind all others of the range, on its `session`, and reads which was the last; or
/// takes the lock with the same key, on its `own` lease, if it has one and the range has no key. If the
/// key or the epoch is not as compared, reads those two.
pub(crate) fn join(
    range: &Range,
    (key, value): (&str, &str),
    (session, own): (i64, Option<i64>),
    (epoch, epoch_key): (Compare, &str),
) -> Txn {
    // To find the last key without its name, etcd reads and sorts all.
    let last = GetOptions::new()
        .with_range(range.end.clone())
        .with_sort(SortTarget::Create, SortOrder::Descend)
        .with_limit(1);
    let last = Txn::new()
        .when([Compare::create_revision(&*range.last, CompareOp::Greater, 0)])
        .and_then([TxnOp::get(&*range.last, None)])
        .or_else([TxnOp::get(&*range.start, Some(last))]);
    let is_new = [epoch.clone(), Compare::create_revision(key, CompareOp::Equal, 0)];
    let puts = [put(key, value, session), put(&range.last, key, session)];
    let join = Txn::new()
        .when(is_new.clone())
        .and_then([TxnOp::txn(last)].into_iter().chain(puts).collect::<Vec<_>>())
        .or_else([TxnOp::get(key, None), TxnOp::get(epoch_key, None)]);
    let Some(own) = own else { return join };
    // etcd stops at the first comparison that fails: with a last waiter, before it reads the range.
    let no_last = Compare::create_revision(&*range.last, CompareOp::Equal, 0);
    let is_free = is_new.into_iter().chain([no_last, is_empty(range)]).collect::<Vec<_>>();
    Txn::new().when(is_free).and_then([put(key, value, own)]).or_else([TxnOp::txn(join)])
}

/// The reply to [`join`].
pub(crate) enum JoinReply {
    /// The key was created at this revision, as a hold.
    Granted(i64),
    /// The key was created at this revision, behind that predecessor.
    Joined(i64, Option<Predecessor>),
    /// An earlier attempt of the same waiter created the key, at this revision.
    JoinedBefore(i64),
    /// The key is another waiter's: restoring the store from a backup brought it back.
    Foreign,
    /// The epoch has this revision; `None` if its key is gone.
    OtherEpoch(Option<i64>),
    Malformed,
}

impl JoinReply {
    /// `own`: whether the request had a lease of its own.
    pub(crate) fn of(reply: &TxnResponse, own: Option<i64>, secret: &str) -> Self {
        let at = revision(reply.header());
        let nested = own.and_then(|_| nested(reply, 0));
        let join = match (own, &nested) {
            (Some(_), _) if reply.succeeded() => return Self::Granted(at),
            (Some(_), None) => return Self::Malformed,
            (Some(_), Some(nested)) => nested,
            (None, _) => reply,
        };
        if join.succeeded() {
            let Some(last) = self::nested(join, 0) else { return Self::Malformed };
            let predecessor = kvs(&last, 0).first().map(|kv| {
                // What the name was written for was there then. An operator may have deleted it since.
                let (key, seen) =
                    if last.succeeded() { (kv.value(), kv.mod_revision()) } else { (kv.key(), at) };
                Predecessor { key: text(key), seen }
            });
            return Self::Joined(at, predecessor);
        }
        match kvs(join, 0).first() {
            Some(own) if is_of(own.value(), secret) => Self::JoinedBefore(own.create_revision()),
            Some(_) => Self::Foreign,
            None => Self::OtherEpoch(kvs(join, 1).first().map(KeyValue::mod_revision)),
        }
    }
}

/// Deletes the name of the last waiter's key if that is `key`: the transaction takes the key out of the
/// queue.
fn unname_last(range: &Range, key: &str) -> TxnOp {
    let named = Compare::value(&*range.last, CompareOp::Equal, key);
    TxnOp::txn(Txn::new().when([named]).and_then([TxnOp::delete(&*range.last, None)]))
}

/// Takes the lock for the waiter's key that was created at `created`, if it is the first of the range:
/// moves it from the `shared` lease to its `own`. If it is not: its position.
pub(crate) fn promote(
    range: &Range,
    key: &str,
    value: &str,
    created: i64,
    (shared, own): (i64, i64),
) -> Txn {
    let none_before =
        Compare::create_revision(range.start.clone(), CompareOp::Greater, created - 1)
            .with_range(range.end.clone());
    let ours = Compare::create_revision(key, CompareOp::Equal, created);
    Txn::new()
        .when([none_before, ours, Compare::lease(key, CompareOp::Equal, shared)])
        .and_then([put(key, value, own), unname_last(range, key)])
        .or_else(position(range, key, created))
}

/// Reads a waiter's key and its predecessor.
fn position(range: &Range, key: &str, created: i64) -> [TxnOp; 2] {
    let before = GetOptions::new()
        .with_range(range.end.clone())
        .with_max_create_revision(created - 1)
        .with_sort(SortTarget::Create, SortOrder::Descend)
        .with_limit(1);
    [TxnOp::get(key, None), TxnOp::get(range.start.clone(), Some(before))]
}

/// The reply to [`promote`].
pub(crate) struct PositionReply {
    /// Whether this request took the lock.
    pub(crate) promoted: bool,
    /// The waiter's key, if it is there.
    pub(crate) own: Option<KeyValue>,
    pub(crate) predecessor: Option<Predecessor>,
}

impl PositionReply {
    pub(crate) fn of(reply: &TxnResponse, created: i64) -> Self {
        let own = kvs(reply, 0).into_iter().find(|kv| kv.create_revision() == created);
        let predecessor = kvs(reply, 1).first().map(|kv| Predecessor::new(kv, reply));
        Self { promoted: reply.succeeded(), own, predecessor }
    }
}

/// The key right before a waiter's.
#[derive(Debug)]
pub(crate) struct Predecessor {
    pub(crate) key: String,
    /// The key was there at this revision.
    pub(crate) seen: i64,
}

impl Predecessor {
    fn new(kv: &KeyValue, reply: &TxnResponse) -> Self {
        Self { key: text(kv.key()), seen: revision(reply.header()) }
    }
}

/// Deletes a waiter's key. With `new_epoch`, a request in flight cannot create it any more.
pub(crate) fn leave_queue(range: &Range, key: &str, new_epoch: Option<TxnOp>) -> Txn {
    let ops = [TxnOp::delete(key, None), unname_last(range, key)];
    Txn::new().and_then(new_epoch.into_iter().chain(ops).collect::<Vec<_>>())
}

/// Deletes the key that was created at `created`, whichever owner has it.
pub(crate) fn force_release(range: &Range, key: &str, created: i64) -> Txn {
    Txn::new()
        .when([Compare::create_revision(key, CompareOp::Equal, created)])
        .and_then([TxnOp::delete(key, None), unname_last(range, key)])
}

/// Moves a held key to another lease, if it was not written since `old`.
pub(crate) fn transfer(old: &KeyValue, lease: i64) -> Txn {
    let put = TxnOp::put(old.key(), old.value(), Some(PutOptions::new().with_lease(lease)));
    Txn::new()
        .when([Compare::mod_revision(old.key(), CompareOp::Equal, old.mod_revision())])
        .and_then([put])
        .or_else([TxnOp::get(old.key(), None)])
}

/// The hold that `old` was, as the reply to a failed [`transfer`] has it.
pub(crate) fn same_hold(reply: &TxnResponse, old: &KeyValue) -> Option<KeyValue> {
    kvs(reply, 0).into_iter().find(|kv| kv.create_revision() == old.create_revision())
}

/// Reads the first key of the range: the holder's.
pub(crate) fn get_first(range: &Range) -> TxnOp {
    TxnOp::get(range.start.clone(), Some(first(range)))
}

/// The options by which a read returns the first key of the range.
pub(crate) fn first(range: &Range) -> GetOptions {
    GetOptions::new()
        .with_range(range.end.clone())
        .with_sort(SortTarget::Create, SortOrder::Ascend)
        .with_limit(1)
}

fn put(key: &str, value: &str, lease: i64) -> TxnOp {
    TxnOp::put(key, value, Some(PutOptions::new().with_lease(lease)))
}

/// What the transaction that is the `op`th operation has returned.
fn nested(reply: &TxnResponse, op: usize) -> Option<TxnResponse> {
    match reply.op_responses().into_iter().nth(op) {
        Some(TxnOpResponse::Txn(nested)) => Some(nested),
        _ => None,
    }
}

/// What the `op`th operation has read or deleted.
pub(crate) fn kvs(reply: &TxnResponse, op: usize) -> Vec<KeyValue> {
    match reply.op_responses().into_iter().nth(op) {
        Some(TxnOpResponse::Get(mut read)) => read.take_kvs(),
        Some(TxnOpResponse::Delete(mut deleted)) => deleted.take_prev_kvs(),
        _ => Vec::new(),
    }
}

/// The revision of the store at which it replied.
pub(crate) fn revision(header: Option<&ResponseHeader>) -> i64 {
    header.map_or(0, ResponseHeader::revision)
}

/// The holder that a key names.
pub(crate) fn holder(kv: &KeyValue) -> Holder {
    Holder::new(label(kv.value()), fence(kv.create_revision()))
}

/// The fencing token of a key that was created at `revision`. Revisions are positive.
pub(crate) fn fence(revision: i64) -> FencingToken {
    FencingToken::new(u64::try_from(revision).unwrap_or_default())
}

/// A key as text. All keys of locks are.
pub(crate) fn text(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}
