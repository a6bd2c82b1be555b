-- Takes the lock if it is free, or already this owner's: a request that arrives twice is one grant.
-- KEYS: the lock, its fencing counter. ARGV: owner token, TTL in ms, the holder's label.
-- Returns {1, token} if granted, else {0, label, token, ms left} of the holder.
local owner, token, label = unpack(redis.call('HMGET', KEYS[1], 'owner', 'fence', 'holder'))
if owner and owner ~= ARGV[1] then
  return {0, label, token, redis.call('PTTL', KEYS[1])}
end
if not owner then
  -- The clock is the floor, so that a counter that was lost does not start again below.
  local clock = redis.call('TIME')
  local last = tonumber(redis.call('GET', KEYS[2]) or 0) or 0
  if last ~= last then
    last = 0 -- not a number
  end
  local next = math.max(last + 1, clock[1] * 1000000 + clock[2])
  -- Lua counts in doubles: beyond 2^53, adding one changes nothing.
  if next >= 9007199254740992 then
    return redis.error_reply('ERR the fencing counter is too large to count on; delete ' .. KEYS[2])
  end
  token = string.format('%.0f', next)
  -- Kept for a day longer than the lease: by then the clock is far beyond the counter.
  redis.call('SET', KEYS[2], token, 'PX', string.format('%.0f', ARGV[2] + 86400000))
  -- What a script has written stays if it fails later, and a lock without an expiry would never end. So a
  -- user who may not set an expiry fails here, before the lock exists. The counter is written first: a full
  -- server refuses only a script's first write.
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'fence', token, 'holder', ARGV[3])
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return {1, token}
end
-- A copy of the request that arrives late must not shorten a lease that was renewed meanwhile.
local left = redis.call('PTTL', KEYS[1])
if left < tonumber(ARGV[2]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return {1, token}
