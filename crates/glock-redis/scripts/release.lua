-- Frees the lock if it is still this owner's, and wakes its waiters. The counter stays.
-- KEYS: the lock, which is the channel's name too. ARGV: owner token.
-- Returns 1 if freed, 0 if not held.
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[1])
-- A user who may not publish has freed the lock all the same. Waiters then look again at the expiry.
redis.pcall('PUBLISH', KEYS[1], 'free')
return 1
