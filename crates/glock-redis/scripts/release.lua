-- Ends the hold if it is still this owner's, or, for an operator, if it has this token. The lock is then
-- reserved for the first waiter, or free; the counter stays. KEYS: the lock, its fencing counter, its queue.
-- ARGV: owner token, what the clients' channels begin with; of an operator the fencing token in place of the
-- owner's, and the pattern that finds that one in the record. Returns 1 if the hold was ended, 0 if there is
-- none such. With the lock as the only key, its waiters find out by a heartbeat: while a slot of a cluster
-- moves, a script may use one key only.
local held = redis.call('GET', KEYS[1])
if not held or string.match(held, ARGV[3] or '^%S+') ~= ARGV[1] then
  return 0
end
local last = KEYS[2] and redis.call('GET', KEYS[2])
if not last or string.byte(last, -1) ~= 43 then
  redis.call('DEL', KEYS[1])
  return 1
end
-- include queue.lua
prefix = ARGV[2]
pass_on(last)
return 1
