-- Ends the hold with this token, whoever has it, and wakes its waiters. The counter stays.
-- KEYS: the lock, which is the channel's name too. ARGV: the token.
-- Returns 1 if ended, 0 if there is no such hold.
local owner, token = unpack(redis.call('HMGET', KEYS[1], 'owner', 'fence'))
if not owner or token ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[1])
-- As in release.lua.
redis.pcall('PUBLISH', KEYS[1], 'free')
return 1
