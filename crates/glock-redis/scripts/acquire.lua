-- Takes the lock if it is free and no waiter is before the caller, or if it is reserved for the caller.
-- Otherwise a caller that names a waiter joins the queue with it, or keeps its place.
-- KEYS: the lock, its fencing counter, its queue. ARGV: owner token, TTL in ms, for how long to keep the
-- counter in ms, the holder's label, what the clients' channels begin with; of a waiter also its name.
-- Returns the token if granted, else {label, token, ms left, 1 if the waiter is the first else 0}.
-- Label and token are empty where the lock is not held, but reserved for another waiter.
local held, last = redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])
local waiter, reserved, marked = ARGV[6], false, ''
if held or last and string.byte(last, -1) == 43 then
  local owner, token, label = string.match(held or '', '^(%S+) (%d+) (.*)$')
  if owner == ARGV[1] then
    -- A copy of the request that arrives late must not shorten a lease that was renewed meanwhile.
    if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then
      redis.call('PEXPIRE', KEYS[1], ARGV[2])
    end
    return token
  end
  reserved = waiter and held == '@' .. waiter
  if owner and not waiter then
    return {label, token, redis.call('PTTL', KEYS[1]), 0}
  end
  -- include queue.lua
  prefix = ARGV[5]
  if held and not owner and string.byte(held) ~= 64 then
    return redis.error_reply('WRONGTYPE the value at the key of the lock is not a lock')
  end
  if not reserved then
    local left = held and (owner and redis.call('PTTL', lock) or reserved_for())
    local first = not held and first_alive()
    if first and first ~= waiter then
      reserve(first)
      left = RESERVED
    end
    if left then
      local is_first = waiter and join(waiter, last, ARGV[3])
      return {label or '', token or '', left, is_first and 1 or 0}
    end
    if first then
      redis.call('ZREM', queue, waiter)
    end
  end
  if is_empty() then
    redis.call('DEL', queue)
  else
    marked = '+'
  end
end
-- The clock is the floor, so that a counter that was lost, or is behind after a failover, does not repeat a
-- token. Where it is ahead of the counter, its digits are the token: to format a number costs more.
local clock = redis.call('TIME')
local next = (tonumber(last) or tonumber(string.match(last or '', '^%d+')) or 0) + 1
local now, token = clock[1] * 1000000 + clock[2], nil
if next > now then
  -- Lua counts in doubles: beyond 2^53, adding one changes nothing.
  if next >= 9007199254740992 then
    return redis.error_reply('ERR the fencing counter is too large to count on; delete ' .. KEYS[2])
  end
  token = string.format('%.0f', next)
else
  token = clock[1] .. string.sub('00000' .. clock[2], -6)
end
-- Kept for a day longer than the lease: by then the clock is far beyond the counter. It is written first: a
-- full server refuses only a script's first write.
redis.call('SET', KEYS[2], token .. marked, 'PX', ARGV[3])
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. token .. ' ' .. ARGV[4], 'PX', ARGV[2])
return token
