//! Paging: which ids are on a page, and who holds them.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use crate::{HeldLock, HoldPage, Holder, IdPrefix, ListCursor, LockError, LockId};

/// How many holders of one page are read at a time.
const READS_AT_ONCE: usize = 16;

/// Before every character that an id may have.
const BEFORE_ALL: char = '\u{1}';

/// The page after `after` of `ids`, in their order, for a store that returns the ids of all locks at once.
/// The cursor is the last id of a page. Holders are still to be read: [`holders`].
pub fn page_of_ids(
    ids: impl IntoIterator<Item = LockId>,
    prefix: &IdPrefix,
    after: Option<&ListCursor>,
    max: usize,
) -> (Vec<LockId>, Option<ListCursor>) {
    let after = after.map(ListCursor::as_str);
    let is_next = |id: &LockId| prefix.is_of(id) && after.is_none_or(|after| id.as_str() > after);
    let mut ids: Vec<_> = ids.into_iter().filter(is_next).collect();
    let is_last = ids.len() <= max;
    if !is_last {
        // Only what is on the page is sorted.
        ids.select_nth_unstable(max);
        ids.truncate(max);
    }
    ids.sort_unstable();
    ids.dedup();
    let next = ids.last().filter(|_| !is_last).map(|last| ListCursor::new(last.as_str()));
    (ids, next)
}

/// Reads who holds each of `ids`, some at a time, and returns the page. What `read` finds free is left out.
///
/// # Errors
///
/// The first error of `read`.
///
/// # Cancel safety
///
/// Drops what is being read.
pub async fn holders<R>(
    ids: Vec<LockId>,
    next: Option<ListCursor>,
    read: impl Fn(LockId) -> R,
) -> Result<HoldPage, LockError>
where
    R: Future<Output = Result<Option<Holder>, LockError>> + Send,
{
    let mut holds = Vec::with_capacity(ids.len());
    for ids in ids.chunks(READS_AT_ONCE) {
        let mut reads: Vec<_> =
            ids.iter().map(|id| Read::Sent(Box::pin(read(id.clone())))).collect();
        poll_fn(|cx| poll_all(&mut reads, cx)).await?;
        for (id, read) in ids.iter().zip(reads) {
            if let Read::Found(holder) = read {
                holds.push(HeldLock::new(id.clone(), holder));
            }
        }
    }
    Ok(HoldPage::new(holds, next))
}

/// The reading of one holder.
enum Read<R> {
    Sent(Pin<Box<R>>),
    Found(Holder),
    Free,
}

fn poll_all<R>(reads: &mut [Read<R>], cx: &mut Context<'_>) -> Poll<Result<(), LockError>>
where
    R: Future<Output = Result<Option<Holder>, LockError>>,
{
    let mut done = Poll::Ready(Ok(()));
    for read in reads {
        let Read::Sent(sent) = read else { continue };
        match sent.as_mut().poll(cx) {
            Poll::Ready(Ok(holder)) => *read = holder.map_or(Read::Free, Read::Found),
            Poll::Ready(Err(err)) => return Poll::Ready(Err(err)),
            Poll::Pending => done = Poll::Pending,
        }
    }
    done
}

/// For a store that keeps a lock under `namespace/id`, in the order of the keys' bytes: the first key of the
/// page after `after`, and the first key after all that begin with `prefix`.
pub fn key_range(
    namespace: &str,
    prefix: &IdPrefix,
    after: Option<&ListCursor>,
) -> (String, String) {
    let first = format!("{namespace}/{prefix}");
    // The separator has a character after it, so there is an end.
    let end = prefix_end(&first).unwrap_or_default();
    match after {
        Some(after) => (format!("{namespace}/{}{BEFORE_ALL}", after.as_str()), end),
        None => (first, end),
    }
}

/// The page of what was read from a [`key_range`], at most `max` at a time: keys, and what is at each.
/// `holder` reads who holds a lock. A key that no lock has is left out unread, and so is one without a
/// holder: another program may have written it.
///
/// # Errors
///
/// What `holder` returns.
pub fn page_of_keys<T, E>(
    namespace: &str,
    read: Vec<(String, T)>,
    max: usize,
    holder: impl Fn(T) -> Result<Option<Holder>, E>,
) -> Result<HoldPage, E> {
    let id_in = |key: &str| Some(key.strip_prefix(namespace)?.strip_prefix('/')?.to_owned());
    let last = read.last().filter(|_| read.len() >= max);
    let next = last.and_then(|(key, _)| id_in(key)).map(ListCursor::new);
    let mut holds = Vec::with_capacity(read.len());
    for (key, value) in read {
        let Some(id) = id_in(&key).and_then(|id| LockId::new(id).ok()) else { continue };
        if let Some(holder) = holder(value)? {
            holds.push(HeldLock::new(id, holder));
        }
    }
    Ok(HoldPage::new(holds, next))
}

/// The first text, in the order of its bytes, after all that begin with `prefix`: the end of a range of
/// keys. `None` if there is none, because `prefix` is empty or has only the last character there is.
pub fn prefix_end(prefix: &str) -> Option<String> {
    let mut end: Vec<char> = prefix.chars().collect();
    while let Some(last) = end.pop() {
        // Some numbers are no character.
        if let Some(next) = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32) {
            end.push(next);
            return Some(end.into_iter().collect());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
    };

    use super::*;
    use crate::{Action, Fault, FencingToken};

    fn ids(names: &[&str]) -> Vec<LockId> {
        names.iter().map(|name| LockId::new(name).unwrap()).collect()
    }

    #[test]
    fn pages_have_each_id_once_and_in_order() {
        let all: Vec<_> = (0..25).rev().map(|n| LockId::new(format!("a{n:02}")).unwrap()).collect();
        for max in [1, 7, 24, 25, 26] {
            let (mut seen, mut after) = (Vec::new(), None);
            loop {
                let others = ids(&["a", "b", "\u{1f512}"]);
                let with_others = all.iter().cloned().chain(others);
                let prefix = IdPrefix::new("a").unwrap();
                let (page, next) = page_of_ids(with_others, &prefix, after.as_ref(), max);
                assert!(page.len() <= max);
                seen.extend(page);
                match next {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
            let sorted: BTreeSet<_> = all.iter().cloned().chain(ids(&["a"])).collect();
            assert_eq!(seen, sorted.into_iter().collect::<Vec<_>>(), "pages of {max}");
        }
    }

    #[test]
    fn a_range_of_keys_goes_on_right_after_its_last_page() {
        let names = ["a", "a ", "a/", "a/\u{10ffff}", "aa", "b"];
        let keys: BTreeSet<_> = names.iter().map(|name| format!("n/{name}")).collect();
        let holder = || Some(Holder::new("x", FencingToken::new(1)));
        for max in 1..=4 {
            let (mut seen, mut after) = (Vec::new(), None);
            loop {
                let prefix = IdPrefix::new("a").unwrap();
                let (start, end) = key_range("n", &prefix, after.as_ref());
                let read = keys.range(start..end).take(max).map(|key| (key.clone(), ()));
                let page = page_of_keys("n", read.collect(), max, |()| Ok::<_, ()>(holder()));
                let page = page.unwrap();
                seen.extend(page.holds.iter().map(|hold| hold.id.to_string()));
                match page.next {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
            assert_eq!(seen, names[..5], "pages of {max}");
        }
        // What is at a key that no lock has is not even read.
        let foreign =
            vec![("n/a".into(), Ok(None)), ("n/a\nb".into(), Err(())), ("m/a".into(), Err(()))];
        assert_eq!(page_of_keys("n", foreign, 9, |read| read), Ok(HoldPage::new(Vec::new(), None)));
        let broken = vec![("n/a".into(), Err(()))];
        assert_eq!(page_of_keys("n", broken, 9, |read| read), Err(()));
    }

    #[tokio::test]
    async fn holders_are_read_some_at_a_time_and_what_is_free_is_left_out() {
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let all: Vec<_> = (0..50).map(|n| LockId::new(format!("{n:02}")).unwrap()).collect();
        let read = async |id: LockId| {
            most.fetch_max(running.fetch_add(1, Relaxed) + 1, Relaxed);
            tokio::task::yield_now().await;
            running.fetch_sub(1, Relaxed);
            let number: u64 = id.as_str().parse().unwrap();
            Ok(number.is_multiple_of(2).then(|| Holder::new("x", FencingToken::new(number))))
        };
        let page = holders(all, None, read).await.unwrap();
        let seen: Vec<_> = page.holds.iter().map(|hold| hold.holder.fence.get()).collect();
        assert_eq!(seen, (0..50).step_by(2).collect::<Vec<_>>());
        assert_eq!(most.load(Relaxed), READS_AT_ONCE);
    }

    #[tokio::test]
    async fn the_first_failure_ends_a_page() {
        let read = async |id: LockId| match id.as_str() {
            "b" => Err(LockError::backend("x", Action::List, Fault::Unavailable, "gone")),
            _ => Ok(None),
        };
        assert!(holders(ids(&["a", "b", "c"]), None, read).await.is_err());
    }

    #[test]
    fn the_end_of_a_prefix_is_behind_all_that_begin_with_it() {
        for prefix in ["a", "a/", "\u{7f}", "\u{d7ff}", "a\u{10ffff}", "\u{1f512}"] {
            let end = prefix_end(prefix).unwrap();
            for rest in ["", "a", "\u{10ffff}", "\u{10ffff}\u{10ffff}"] {
                assert!(format!("{prefix}{rest}") < end, "{prefix:?}");
            }
            assert!(!end.starts_with(prefix));
        }
        assert_eq!(prefix_end("a/"), Some("a0".into()));
        assert_eq!((prefix_end(""), prefix_end("\u{10ffff}")), (None, None));
    }
}
