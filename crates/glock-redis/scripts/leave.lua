-- Takes a waiter out of the queue. A lock that is reserved for it passes on.
-- KEYS: the lock, its fencing counter, its queue. ARGV: the waiter, what the clients' channels begin with.
local held, last = redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])
-- include queue.lua
prefix = ARGV[2]
if held == '@' .. ARGV[1] then
  pass_on(last)
elseif redis.call('ZREM', queue, ARGV[1]) == 1 and is_empty() then
  unmark(last)
end
return 1
