-- Renews the lease if it is still this owner's. It never shortens the lease, because the caller may
-- still use the old one. KEYS: the lock. ARGV: owner token, TTL in ms.
-- Returns 1 if still held, 0 if not.
local held = redis.call('GET', KEYS[1])
if not held or string.match(held, '^%S+') ~= ARGV[1] then
  return 0
end
local left = redis.call('PTTL', KEYS[1])
if left >= 0 and left < tonumber(ARGV[2]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 1
