-- Has a client notified once when the lock is no longer held by its holder.
-- KEYS: the lock, its fencing counter, its queue. ARGV: the client, for how long to keep a counter in ms.
-- Returns the ms left, or -2 if the lock is free.
local held, last = redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])
if not held then
  return -2
end
-- include queue.lua
redis.call('ZADD', queue, 0, '?' .. ARGV[1])
redis.call('PEXPIRE', queue, KEPT)
mark(last, ARGV[2])
return redis.call('PTTL', lock)
