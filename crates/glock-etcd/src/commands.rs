//! The transactions that a lock is made of, and what their answers say.

use etcd_client::{
    Compare, CompareOp, DeleteOptions, GetOptions, KeyValue, PutOptions, SortOrder, SortTarget,
    Txn, TxnOp, TxnOpResponse, TxnResponse,
};

use crate::schema::Range;

/// Takes a lock that has no key at all. If it has one: who is first.
pub(crate) fn take(range: &Range, key: &str, value: &str, lease: i64) -> Txn {
    let nobody = Compare::create_revision(range.start.clone(), CompareOp::Equal, 0)
        .with_range(range.end.clone());
    Txn::new().when([nobody]).and_then([put(key, value, lease)]).or_else([get_first(range)])
}

/// Gets in line behind everybody. Either way: the last two in line, and the two keys that say why
/// not.
pub(crate) fn get_in_line(
    range: &Range,
    key: &str,
    value: &str,
    lease: i64,
    (epoch, epoch_key): (Compare, &str),
) -> Txn {
    let last = GetOptions::new()
        .with_range(range.end.clone())
        .with_sort(SortTarget::Create, SortOrder::Descend)
        .with_limit(2);
    let last = TxnOp::get(range.start.clone(), Some(last));
    Txn::new()
        .when([epoch, Compare::create_revision(key, CompareOp::Equal, 0)])
        .and_then([put(key, value, lease), last])
        .or_else([TxnOp::get(key, None), TxnOp::get(epoch_key, None)])
}

/// Takes the lock for the key that was made at `created`, if that is the first now: moves it from
/// the `shared` lease to one of its own. If it is not: whether it is there, and which is before it.
pub(crate) fn move_up(
    range: &Range,
    key: &str,
    value: &str,
    created: i64,
    (shared, own): (i64, i64),
) -> Txn {
    let nobody_before =
        Compare::create_revision(range.start.clone(), CompareOp::Greater, created - 1)
            .with_range(range.end.clone());
    Txn::new()
        .when([nobody_before, is_ours(key, created), Compare::lease(key, CompareOp::Equal, shared)])
        .and_then([put(key, value, own)])
        .or_else(look(range, key, created))
}

/// Whether the key is there, and which is before it.
pub(crate) fn look(range: &Range, key: &str, created: i64) -> [TxnOp; 2] {
    let before = GetOptions::new()
        .with_range(range.end.clone())
        .with_max_create_revision(created - 1)
        .with_sort(SortTarget::Create, SortOrder::Descend)
        .with_limit(1);
    [TxnOp::get(key, None), TxnOp::get(range.start.clone(), Some(before))]
}

/// Moves a held key to another lease, if it was not written since `modified`.
pub(crate) fn move_lease(key: &str, value: &[u8], modified: i64, lease: i64) -> Txn {
    let put = TxnOp::put(key, value, Some(PutOptions::new().with_lease(lease)));
    Txn::new()
        .when([Compare::mod_revision(key, CompareOp::Equal, modified)])
        .and_then([put])
        .or_else([TxnOp::get(key, None)])
}

/// Deletes the key that says this. Its lease is in the answer; if it says something else, that is.
pub(crate) fn let_go(key: &str, value: &[u8]) -> Txn {
    let delete = TxnOp::delete(key, Some(DeleteOptions::new().with_prev_key()));
    Txn::new()
        .when([Compare::value(key, CompareOp::Equal, value)])
        .and_then([delete])
        .or_else([TxnOp::get(key, None)])
}

/// Leaves the line, and shuts out the request to get into it if that is still on its way.
pub(crate) fn step_out(key: &str, new_epoch: Option<TxnOp>) -> Txn {
    let ops: Vec<_> = new_epoch.into_iter().chain([TxnOp::delete(key, None)]).collect();
    Txn::new().and_then(ops)
}

/// Who is first in line.
pub(crate) fn get_first(range: &Range) -> TxnOp {
    TxnOp::get(range.start.clone(), Some(first(range)))
}

pub(crate) fn first(range: &Range) -> GetOptions {
    GetOptions::new()
        .with_range(range.end.clone())
        .with_sort(SortTarget::Create, SortOrder::Ascend)
        .with_limit(1)
}

fn put(key: &str, value: &str, lease: i64) -> TxnOp {
    TxnOp::put(key, value, Some(PutOptions::new().with_lease(lease)))
}

fn is_ours(key: &str, created: i64) -> Compare {
    Compare::create_revision(key, CompareOp::Equal, created)
}

/// What the `op`th operation has read, or deleted.
pub(crate) fn kvs(answer: &TxnResponse, op: usize) -> Vec<KeyValue> {
    match answer.op_responses().into_iter().nth(op) {
        Some(TxnOpResponse::Get(mut read)) => read.take_kvs(),
        Some(TxnOpResponse::Delete(mut deleted)) => deleted.take_prev_kvs(),
        _ => Vec::new(),
    }
}
