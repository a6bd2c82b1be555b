-- Renews leases that are still their owners', each as renew.lua does.
-- KEYS: the locks. ARGV: the TTL in ms, and of each lock the owner token.
-- Returns for each lock 1 if it is still held, 0 if not.
local ttl, found = tonumber(ARGV[1]), {}
for n = 1, #KEYS do
  -- A key of another program is left out.
  local held = redis.pcall('GET', KEYS[n])
  found[n] = 0
  if type(held) == 'string' and string.match(held, '^%S+') == ARGV[n + 1] then
    local left = redis.call('PTTL', KEYS[n])
    if left >= 0 and left < ttl then
      redis.call('PEXPIRE', KEYS[n], ARGV[1])
    end
    found[n] = 1
  end
end
return found
