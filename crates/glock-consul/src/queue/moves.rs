//! How a queue moves on: a lock is handed over, reserved, passed on, or left.

use std::sync::Arc;

use glock_core::{
    LockId,
    toolkit::{WaiterId, client_of},
};
use serde_json::{Value, json};

use crate::{
    client::{Client, ConsulClient},
    commands::{checks, delete, get_tree, lock, unlock},
    error::ConsulError,
    queue::{
        claim::Claim,
        place::{LockQueue, NEXT_MAX, Place, Turn},
    },
    schema::{Entry, Record},
    session::Owner,
};

/// How often a waiter looks again because the queue has changed since it looked.
const LOOKS_MAX: usize = 8;
/// How many places of a client that is gone are deleted at once; Consul allows 64 operations.
const DELETED_MAX: usize = 40;

impl Client {
    /// Moves the queue on, where the lock is free or was reserved for too long. Returns by which right the
    /// caller may take the lock now: the waiter `caller` of this client, or somebody who does not wait.
    pub(crate) async fn move_on(
        &self,
        id: &LockId,
        queue: &LockQueue,
        caller: Option<u64>,
    ) -> Result<Option<Claim>, ConsulError> {
        let key = self.keys.key(id);
        if let Some((waiter, by)) = queue.reservation() {
            let claim = Claim::Reserved { by: by.clone(), next: queue.next() };
            match self.waiters.own(&waiter) {
                own @ Some(_) if own == caller => return Ok(Some(claim)),
                // It left before it had a place to leave.
                Some(own) if !self.waiters.turn(own, claim) => {
                    self.free(id, queue, &by).await?;
                    return Ok(None);
                }
                _ => {}
            }
            if self.reservations.is_over(&key, by.index) {
                return self.pass_on(id, queue, (&waiter, &by), caller).await;
            }
            return Ok(None);
        }
        if queue.is_locked() {
            self.reservations.none(&key);
            return Ok(None);
        }
        let Some(first) = queue.places.first() else {
            self.reservations.none(&key);
            let claim = queue.mark.map_or(Claim::Try, Claim::StaleMark);
            return Ok(caller.is_none().then_some(claim));
        };
        let claim = Claim::First(first.clone());
        match self.waiters.own(&first.waiter) {
            own @ Some(_) if own == caller => return Ok(Some(claim)),
            Some(own) if self.waiters.turn(own, claim) => {
                // Its program may not poll it any more.
                if self.reservations.is_over(&key, first.index) {
                    self.delete_place(id, queue, first).await?;
                }
                return Ok(None);
            }
            _ => {}
        }
        let free = json!({"Verb": "check-not-exists", "Key": key});
        let reserved = self.reserve(&self.consul, id, vec![free], &queue.places).await?;
        self.note_reservation(&key, reserved);
        Ok(None)
    }

    /// Reserves the lock of `owner` for the first of these places. Returns `false` if that was refused.
    pub(crate) async fn hand_over(
        &self,
        consul: &ConsulClient,
        id: &LockId,
        owner: &Owner,
        places: &[Place],
    ) -> Result<bool, ConsulError> {
        let key = self.keys.key(id);
        let (session, index) = checks(&key, owner);
        let operations = vec![session, index, unlock(&key, &owner.session)];
        Ok(self.reserve(consul, id, operations, places).await?.is_some())
    }

    /// Takes a waiter out of the queue. A lock that is reserved for it passes on.
    pub(crate) async fn leave(
        self: &Arc<Self>,
        id: &LockId,
        waiter: WaiterId,
    ) -> Result<(), ConsulError> {
        let (key, name) = (self.keys.key(id), waiter.to_string());
        if let Some(untaken) = self.waiters.gone(&key, waiter.number) {
            self.give_up(untaken).await?;
        }
        for _ in 0..LOOKS_MAX {
            let queue = self.look(id).await?;
            let left = match queue.reservation() {
                Some((reserved, by)) if reserved == name => self.free(id, &queue, &by).await?,
                _ => {
                    if let Some(place) = queue.place(&name) {
                        self.delete_place(id, &queue, place).await?
                    } else {
                        self.unmark(id, &queue);
                        true
                    }
                }
            };
            if left {
                return Ok(());
            }
        }
        Err(ConsulError::NotSent("the queue changes again and again".into()))
    }

    /// Passes a lock on that was reserved for a waiter that did not claim it. All places of its client go:
    /// most likely it is gone, and it joins again if it is not.
    async fn pass_on(
        &self,
        id: &LockId,
        queue: &LockQueue,
        (waiter, by): (&str, &Owner),
        caller: Option<u64>,
    ) -> Result<Option<Claim>, ConsulError> {
        let key = self.keys.key(id);
        let (client, is_gone) = (client_of(waiter), self.waiters.own(waiter).is_none());
        let (gone, others): (Vec<_>, Vec<_>) =
            queue.places.iter().cloned().partition(|place| is_gone && place.client() == client);
        let prefix = self.keys.queue(id);
        let gone = gone.iter().take(DELETED_MAX);
        let gone: Vec<_> = gone.map(|place| delete(&format!("{prefix}{}", place.waiter))).collect();
        if others.is_empty() && caller.is_none() {
            if !gone.is_empty() {
                let _ = self.consul.transaction(gone).await?;
            }
            return Ok(Some(Claim::Reserved { by: by.clone(), next: Vec::new() }));
        }
        // Refused, it was passed on by another client.
        let ended = self.end_reservation(id, by, gone, &others).await?;
        self.note_reservation(&key, ended.filter(|_| !others.is_empty()));
        Ok(None)
    }

    /// Notes the index of a reservation that this client is to end if its waiter does not claim it in time.
    fn note_reservation(&self, key: &str, index: Option<u64>) {
        if let Some(index) = index {
            self.reservations.note(key, index);
        }
    }

    /// Has the mark deleted of a queue without waiters.
    pub(crate) fn unmark(&self, id: &LockId, queue: &LockQueue) {
        if let (true, Some(index)) = (queue.places.is_empty(), queue.mark) {
            self.sessions.delete_mark_later(self.keys.mark(id), index);
        }
    }

    /// Ends the reservation of `by` for a waiter that has left. Returns `false` if that was refused.
    async fn free(&self, id: &LockId, queue: &LockQueue, by: &Owner) -> Result<bool, ConsulError> {
        let is_done = self.end_reservation(id, by, Vec::new(), &queue.places).await?.is_some();
        if is_done {
            self.unmark(id, queue);
        }
        Ok(is_done)
    }

    /// Ends the reservation of `by`, and does `more`: the lock is then reserved for the first of these places, or
    /// free. Returns the index of that; `None` if it was refused.
    async fn end_reservation(
        &self,
        id: &LockId,
        by: &Owner,
        more: Vec<Value>,
        places: &[Place],
    ) -> Result<Option<u64>, ConsulError> {
        let key = self.keys.key(id);
        let mut operations = by.ended(&key);
        operations.extend(more);
        if !places.is_empty() {
            return self.reserve(&self.consul, id, operations, places).await;
        }
        operations.push(delete(&key));
        let done = self.consul.transaction(operations).await?;
        Ok(done.ok().and_then(|entries| last_index(&entries, &key)))
    }

    /// Deletes a place. The waiter behind the first learns that it is the first.
    async fn delete_place(
        &self,
        id: &LockId,
        queue: &LockQueue,
        place: &Place,
    ) -> Result<bool, ConsulError> {
        let prefix = self.keys.queue(id);
        let mut operations = Vec::from(place.deleted(&prefix));
        let second = queue.places.get(1).filter(|_| queue.is_first(&place.waiter));
        let own = second.and_then(|second| self.waiters.own(&second.waiter));
        if let Some(second) = second.filter(|_| own.is_none()) {
            let turn = self.keys.turn(second.client(), id);
            operations.push(lock(&turn, &second.session, &place.waiter)?);
        }
        // Others may leave at the same time.
        operations.push(get_tree(&prefix));
        let Ok(entries) = self.consul.transaction(operations).await? else { return Ok(false) };
        // After the place, as it was.
        self.unmark(id, &LockQueue::read("", &prefix, entries.iter().skip(1)));
        if let Some(second) = second.filter(|_| own.is_some()) {
            self.wait_first(id, second).await?;
        }
        Ok(true)
    }

    /// Reserves the lock for the first of these places, after operations that leave it free, and notifies
    /// its client. Returns the index of the reservation; `None` if that was refused.
    async fn reserve(
        &self,
        consul: &ConsulClient,
        id: &LockId,
        mut operations: Vec<Value>,
        places: &[Place],
    ) -> Result<Option<u64>, ConsulError> {
        let Some((first, next)) = places.split_first() else { return Ok(None) };
        let (key, next) = (self.keys.key(id), next.iter().take(NEXT_MAX).cloned().collect());
        operations.push(lock(&key, &first.session, &Record::reserved(&first.waiter))?);
        let own = self.waiters.own(&first.waiter);
        let turn = Turn { waiter: first.waiter.clone(), place: first.index, next };
        if own.is_none() {
            operations.push(lock(&self.keys.turn(first.client(), id), &first.session, &turn)?);
        }
        operations.extend(first.deleted(&self.keys.queue(id)));
        let Ok(entries) = consul.transaction(operations).await? else { return Ok(None) };
        let index = last_index(&entries, &key);
        if let (Some(number), Some(index)) = (own, index) {
            let by = Owner { session: first.session.clone(), index };
            self.waiters.turn(number, Claim::Reserved { by, next: turn.next });
        }
        Ok(index)
    }
}

/// The index that the last operation on `key` has given it.
pub(crate) fn last_index(entries: &[Entry], key: &str) -> Option<u64> {
    entries.iter().rev().find(|entry| entry.key == key).map(|entry| entry.modify_index)
}
