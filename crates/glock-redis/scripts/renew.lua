-- Extends the lease if it is still this owner's, and never shortens it: the lease that it had before
-- stays good for what it was. KEYS: the lock. ARGV: owner token, TTL in ms.
-- Returns 1 if still held, 0 if not.
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then
  return 0
end
local left = redis.call('PTTL', KEYS[1])
if left >= 0 and left < tonumber(ARGV[2]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 1
