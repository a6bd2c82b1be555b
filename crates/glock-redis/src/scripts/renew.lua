-- Extends the lease if it is still this owner's. KEYS: the lock. ARGV: owner token, TTL in ms.
-- Returns 1 if extended, 0 if not held.
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then
  return 0
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
