-- Reads the holder. KEYS: the lock. Returns {label, token, ms left}, or nil if the lock is not held.
local held = redis.call('GET', KEYS[1])
if not held or string.byte(held) == 64 then
  return false
end
local token, label = string.match(held, '^%S+ (%d+) (.*)$')
if not token then
  return redis.error_reply('WRONGTYPE the value at the key of the lock is not a lock')
end
return {label, token, redis.call('PTTL', KEYS[1])}
