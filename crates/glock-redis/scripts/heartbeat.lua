-- Keeps the places of a client's waiters, and reserves each lock that is free for its first waiter.
-- KEYS: of each lock the lock, its fencing counter, its queue. ARGV: the client, what the clients' channels
-- begin with, for how long to keep a counter in ms; of each lock how many waiters, and their numbers.
-- Returns for each lock {the waiter that it is reserved for or 0, the waiter that is the first or 0,
-- ms left, the waiters that have no place ..}.
-- include queue.lua
prefix = ARGV[2]
local client, at, found = ARGV[1], 4, {}
for key = 1, #KEYS, 3 do
  lock, counter, queue = KEYS[key], KEYS[key + 1], KEYS[key + 2]
  local held, last = unpack(redis.call('MGET', lock, counter))
  local names = {}
  for n = 1, ARGV[at] do
    names[n] = client .. ':' .. ARGV[at + n]
  end
  local places = redis.call('ZMSCORE', queue, unpack(names))
  local is_there = false
  for n = 1, #names do
    is_there = is_there or places[n]
  end
  if is_there then
    see(client)
    mark(last, ARGV[3])
  end
  local first = not held and first_alive()
  if first then
    reserve(first)
    held = '@' .. first
  end
  local reply = {0, 0, 0}
  for n = 1, #names do
    if held == '@' .. names[n] then
      reply[1] = tonumber(ARGV[at + n])
    elseif not places[n] then
      reply[#reply + 1] = tonumber(ARGV[at + n])
    end
  end
  first = redis.call('ZRANGEBYSCORE', queue, 1, '+inf', 'LIMIT', 0, 1)[1]
  if first and held and client_of(first) == client then
    reply[2] = tonumber(string.sub(first, #client + 2))
    reply[3] = string.byte(held) == 64 and reserved_for() or redis.call('PTTL', lock)
  end
  found[#found + 1] = reply
  at = at + 1 + ARGV[at]
end
return found
