//! The statements that only queues need.
//!
//! `waiters` is a JSON array of names (`client:number`) in their order. `seen` says when each client was last
//! seen, and `awaited_until` until when the one that was seen last counts as alive. A lock without a holder is
//! `reserved` for a waiter until `reserved_until`. A row without waiters has null or zero in all of these
//! columns. Times are those of leases.

use std::time::Duration;

use glock_core::toolkit::{ALIVE_FOR, RESERVED_FOR};
use sqlx::{AssertSqlSafe, SqlSafeStr as _, SqlStr};

use crate::client::micros;

/// After how long a client is forgotten.
const FORGOTTEN: Duration = Duration::from_mins(1);

/// The client of a waiter.
fn client_of(waiter: &str) -> String {
    format!("substr({waiter}, 1, instr({waiter}, ':') - 1)")
}

/// Whether the client of `waiter` is alive: it was seen some seconds ago at most, and since row `l` was
/// reserved for one of its waiters in vain. So a client that is gone holds up the queue once.
fn is_alive(waiter: &str, seen: &str, now: &str) -> String {
    let (client, reserved, alive) = (client_of(waiter), client_of("l.reserved"), micros(ALIVE_FOR));
    let reserved_for = micros(RESERVED_FOR);
    // A name that begins with a digit would be an index.
    let seen = format!("json_extract({seen}, '$.c' || {client})");
    format!(
        "({now} - {seen} <= {alive} \
          AND (l.reserved IS NULL OR l.reserved_until > {now} OR {reserved} <> {client} \
            OR {seen} > l.reserved_until - {reserved_for}))"
    )
}

/// Reserves row `l`, whose hold or reservation ends, for its first waiter. To be set by an update.
///
/// ?3 now.
pub(crate) fn pass_on() -> String {
    let others = "json_array_length(l.waiters) > 1";
    let reserved_for = micros(RESERVED_FOR);
    format!(
        "reserved = CASE WHEN l.awaited_until > ?3 THEN l.waiters ->> 0 END, \
         reserved_until = CASE WHEN l.awaited_until > ?3 THEN ?3 + {reserved_for} ELSE 0 END, \
         waiters = CASE WHEN l.awaited_until > ?3 AND {others} \
           THEN json_remove(l.waiters, '$[0]') END, \
         seen = CASE WHEN l.awaited_until > ?3 AND {others} THEN l.seen END, \
         awaited_until = CASE WHEN l.awaited_until > ?3 AND {others} THEN l.awaited_until ELSE 0 END"
    )
}

/// ?1 key, ?2 owner, ?3 now, ?4 TTL, ?5 where tokens begin, ?6 holder, ?7 this start of the system, ?8 waiter,
/// ?9 its client. One row: whether it is granted; the fence; what tokens are less than; for how long the lock
/// is held or reserved; whether the waiter is the first in the queue; the waiter that the lock is reserved for,
/// or an empty text; whether that was done by this request. No row: the file is used on another machine.
pub(super) fn enter() -> SqlStr {
    let is_alive = is_alive("w.value", "b.seen", "?3");
    let (alive, reserved_for) = (micros(ALIVE_FOR), micros(RESERVED_FOR));
    sql(format!(
        "INSERT INTO distributed_lock AS l (lock_id, owner, fence, expires, holder, waited_until) \
         SELECT ?1, ?2, max(?5, token_min), ?3 + ?4, ?6, 0 FROM glock WHERE boot = ?7 \
         ON CONFLICT (lock_id) DO UPDATE SET \
           (owner, fence, expires, holder, reserved, reserved_until, waiters, seen, awaited_until) = (\
             SELECT CASE WHEN granted THEN ?2 WHEN held THEN l.owner END, \
               CASE WHEN granted THEN max(l.fence + 1, excluded.fence) ELSE l.fence END, \
               CASE WHEN granted THEN excluded.expires ELSE l.expires END, \
               CASE WHEN granted THEN ?6 ELSE l.holder END, \
               CASE WHEN granted THEN NULL WHEN taken THEN l.reserved ELSE waiters ->> first END, \
               CASE WHEN granted THEN 0 WHEN taken THEN l.reserved_until ELSE ?3 + {reserved_for} END, \
               others, CASE WHEN others IS NOT NULL THEN seen END, \
               CASE WHEN others IS NOT NULL THEN ?3 + {alive} ELSE 0 END \
             FROM (SELECT d.*, nullif((SELECT json_group_array(w.value) FROM json_each(d.waiters) w \
                 WHERE CASE WHEN d.granted THEN w.value <> ?8 \
                   ELSE d.taken OR w.key > d.first END), '[]') AS others \
               FROM (SELECT c.*, CASE WHEN c.taken THEN NOT c.held AND l.reserved = ?8 \
                   ELSE (c.waiters ->> c.first) = ?8 END AS granted \
                 FROM (SELECT b.*, \
                     (SELECT w.key FROM json_each(b.waiters) w WHERE {is_alive} LIMIT 1) AS first \
                   FROM (SELECT l.owner IS NOT NULL AND l.expires > ?3 AS held, \
                       l.owner IS NOT NULL AND l.expires > ?3 OR l.reserved_until > ?3 AS taken, \
                       CASE WHEN EXISTS (SELECT 1 FROM json_each(l.waiters) w WHERE w.value = ?8) \
                         THEN l.waiters \
                         ELSE json_insert(coalesce(l.waiters, '[]'), '$[#]', ?8) END AS waiters, \
                       json_set(coalesce(l.seen, '{{}}'), '$.c' || ?9, ?3) AS seen) b) c) d) e) \
         RETURNING owner IS ?2, fence, (SELECT token_max FROM glock), \
           max(CASE WHEN owner IS NOT NULL THEN expires ELSE reserved_until END - ?3, 0), \
           coalesce((waiters ->> 0) = ?8, false), coalesce(reserved, ''), \
           reserved_until = ?3 + {reserved_for}",
    ))
}

/// ?1 key, ?2 waiter. Takes it out of the queue. One row if the lock is reserved for it: see [`forgo`].
pub(super) fn leave() -> SqlStr {
    let others = "nullif((SELECT json_group_array(w.value) FROM json_each(l.waiters) w \
                  WHERE w.value <> ?2), '[]')";
    sql(format!(
        "UPDATE distributed_lock AS l SET waiters = {others}, \
           seen = CASE WHEN {others} IS NOT NULL THEN l.seen END, \
           awaited_until = CASE WHEN {others} IS NOT NULL THEN l.awaited_until ELSE 0 END \
         WHERE lock_id = ?1 AND (waiters IS NOT NULL OR reserved = ?2) \
         RETURNING owner IS NULL AND reserved IS ?2"
    ))
}

/// ?1 key, ?2 waiter, ?3 now. Passes on a lock that is reserved for the waiter. One row if it was: the waiter
/// that it is reserved for now, or an empty text.
pub(super) fn forgo() -> SqlStr {
    let pass_on = pass_on();
    sql(format!(
        "UPDATE distributed_lock AS l SET {pass_on} \
         WHERE lock_id = ?1 AND owner IS NULL AND reserved = ?2 RETURNING coalesce(reserved, '')"
    ))
}

/// ?1 client, ?2 now, `keys` from ?3 on. Notes that the client is alive, and takes out the waiters of those
/// that are not. A row for each lock whose queue has the client, or that is reserved for it: key; the waiter
/// that the lock is reserved for; the first in the queue; for how long the lock is held or reserved; the queue.
pub(super) fn heartbeat(keys: &str) -> SqlStr {
    let (seen, alive) = ("json_set(l.seen, '$.c' || ?1, ?2)", micros(ALIVE_FOR));
    let (is_alive, forgotten) = (is_alive("w.value", "s.seen", "?2"), micros(FORGOTTEN));
    // `s` is made once, and not for each waiter: two hundred of them would keep the file busy for good.
    let alive_waiters = format!(
        "(WITH s AS MATERIALIZED (SELECT {seen} AS seen) \
           SELECT nullif(json_group_array(a.value), '[]') FROM (SELECT w.value \
             FROM s CROSS JOIN json_each(l.waiters) w WHERE {is_alive} ORDER BY w.key) a)"
    );
    let is_in = "coalesce(json_extract(l.seen, '$.c' || ?1), 0) > 0";
    sql(format!(
        "UPDATE distributed_lock AS l SET \
           waiters = CASE WHEN {is_in} THEN {alive_waiters} ELSE l.waiters END, \
           seen = CASE WHEN {is_in} THEN (SELECT json_group_object(w.key, w.value) \
             FROM json_each({seen}) w WHERE ?2 - w.value <= {forgotten}) ELSE l.seen END, \
           awaited_until = CASE WHEN {is_in} THEN ?2 + {alive} ELSE l.awaited_until END \
         WHERE lock_id IN ({keys}) \
           AND ({is_in} OR owner IS NULL AND reserved >= ?1 || ':' AND reserved < ?1 || ';') \
         RETURNING lock_id, \
           CASE WHEN owner IS NULL AND reserved_until > ?2 THEN reserved ELSE '' END, \
           coalesce(waiters ->> 0, ''), \
           max(CASE WHEN owner IS NOT NULL THEN expires ELSE reserved_until END - ?2, 0), \
           coalesce(waiters, '[]')"
    ))
}

/// ?1 client, ?2 now. A row for each lock that is reserved for this client: the waiter.
pub(super) const TURNS: SqlStr = SqlStr::from_static(
    "SELECT reserved FROM distributed_lock INDEXED BY distributed_lock_reserved \
     WHERE reserved >= ?1 || ':' AND reserved < ?1 || ';' AND reserved_until > ?2",
);

fn sql(text: String) -> SqlStr {
    AssertSqlSafe(text).into_sql_str()
}
