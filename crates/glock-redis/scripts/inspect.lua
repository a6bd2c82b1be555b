-- Reads the holder. KEYS: the lock. Returns {label, token, ms left}, or nil if the lock is free.
local owner, token, label = unpack(redis.call('HMGET', KEYS[1], 'owner', 'fence', 'holder'))
if not owner then
  return false
end
return {label, token, redis.call('PTTL', KEYS[1])}
