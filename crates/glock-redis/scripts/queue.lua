-- The queue of a lock, for the scripts that include this. It is a sorted set with three kinds of members:
-- waiters (`client:number`) by their order, from 1; clients that wait to be notified once (`?client`) at 0;
-- and when each client was last seen (`@client`), in microseconds, negative. A `+` behind the fencing
-- counter says that there are members of the first two kinds. The value at the lock's key is `@waiter`
-- while the lock is reserved.
local RESERVED, ALIVE, KEPT, FORGOTTEN = 1500, 5000, 15000, 60000
local lock, counter, queue = KEYS[1], KEYS[2], KEYS[3]
local clock, prefix = redis.call('TIME'), nil
local now = clock[1] * 1000000 + clock[2]

local function client_of(waiter)
  return string.match(waiter, '^[^:]*')
end

local function is_empty()
  return redis.call('ZCOUNT', queue, 0, '+inf') == 0
end

-- The first waiter whose client is alive. Those before it go. A client of the future was seen before the
-- clock went back.
local function first_alive()
  while true do
    local waiter = redis.call('ZRANGEBYSCORE', queue, 1, '+inf', 'LIMIT', 0, 1)[1]
    if not waiter then
      return false
    end
    local seen = tonumber(redis.call('ZSCORE', queue, '@' .. client_of(waiter)) or nil)
    if seen and math.abs(now + seen) <= ALIVE * 1000 then
      return waiter
    end
    redis.call('ZREM', queue, waiter)
  end
end

-- Without the right to publish, clients learn of it by their heartbeats.
local function notify(client, message)
  redis.pcall('PUBLISH', prefix .. client, message)
end

-- Reserves the lock for a waiter of the queue. Its client counts as alive for no longer than that lasts,
-- unless it sends a request meanwhile: so a client that is gone holds up the queue once. What needs no
-- memory is written first: a full server refuses only a script's first write.
local function reserve(waiter)
  local client = client_of(waiter)
  redis.call('ZREM', queue, waiter)
  redis.call('SET', lock, '@' .. waiter, 'PX', RESERVED)
  redis.call('ZADD', queue, 'XX', (ALIVE - RESERVED) * 1000 - now, '@' .. client)
  notify(client, string.sub(waiter, #client + 2))
end

-- For how long the lock stays reserved. No longer than ever, also if the clock went back meanwhile.
local function reserved_for()
  local left = redis.call('PTTL', lock)
  if left > RESERVED then
    redis.call('PEXPIRE', lock, RESERVED)
  end
  return math.min(left, RESERVED)
end

-- Marks the counter. The lock's own token is not below it: without a counter, the clock counts.
local function mark(last, kept)
  if not last then
    redis.call('SET', counter, '0+', 'PX', kept)
  elseif string.byte(last, -1) ~= 43 then
    redis.call('SET', counter, last .. '+', 'KEEPTTL')
  end
end

local function unmark(last)
  redis.call('DEL', queue)
  if last and string.byte(last, -1) == 43 then
    redis.call('SET', counter, string.sub(last, 1, -2), 'KEEPTTL')
  end
end

-- Notes that the client is alive. The queue goes with its last client.
local function see(client)
  if redis.call('ZADD', queue, -now, '@' .. client) == 1 then
    redis.call('ZREMRANGEBYSCORE', queue, '(' .. string.format('%.0f', FORGOTTEN * 1000 - now), '(0')
  end
  redis.call('PEXPIRE', queue, KEPT)
end

-- Puts the waiter behind all others, unless it is in the queue. Returns whether it is the first.
local function join(waiter, last, kept)
  if not redis.call('ZSCORE', queue, waiter) then
    local number = tonumber(redis.call('ZRANGE', queue, -1, -1, 'WITHSCORES')[2] or nil)
    redis.call('ZADD', queue, math.max(number or 0, 0) + 1, waiter)
  end
  see(client_of(waiter))
  mark(last, kept)
  return redis.call('ZRANGEBYSCORE', queue, 1, '+inf', 'LIMIT', 0, 1)[1] == waiter
end

-- The lock is over: reserves it for the first waiter, or frees it. Notifies those who wait for that.
local function pass_on(last)
  local first = first_alive()
  if first then
    reserve(first)
  else
    redis.call('DEL', lock)
  end
  for _, watcher in ipairs(redis.call('ZRANGEBYSCORE', queue, 0, 0)) do
    redis.call('ZREM', queue, watcher)
    notify(string.sub(watcher, 2), lock)
  end
  if not first then
    unmark(last)
  end
end
