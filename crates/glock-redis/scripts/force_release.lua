-- Ends the hold with this token, whoever has it. The lock is then reserved for the first waiter, or free; the
-- counter stays. KEYS: the lock, its fencing counter, its queue. ARGV: the token, what the clients' channels
-- begin with. Returns 1 if ended, 0 if there is no such hold. With the lock as the only key: see release.lua.
local held = redis.call('GET', KEYS[1])
if not held or string.match(held, '^%S+ (%d+) ') ~= ARGV[1] then
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
