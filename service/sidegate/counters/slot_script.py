"""The scripts of shared slots: who holds and who waits for a key, with leases by the store's own clock.

Each key has three sorted sets: its holders by when their lease ends, those who wait by their ticket, and the same by
when they were last heard of. A ticket is a number in the order of coming, one count for all keys. Who waits stands only
in the rows of the keys that stop it, with the ticket it had when it came.
"""

from __future__ import annotations

from sidegate.shared.script import Script

_PLACES = """
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Those whose replica has died.
local function clean(holders, row, heard, at)
  redis.call('ZREMRANGEBYSCORE', holders, '-inf', at)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', heard, '-inf', at, 'LIMIT', 0, 100)) do
    redis.call('ZREM', heard, id)
    redis.call('ZREM', row, id)
  end
end

-- The first of a row may look whether it is its turn. Its id begins with the name of its process, which listens.
local function call_first(row, channel)
  local first = redis.call('ZRANGE', row, 0, 0)[1]
  if first then redis.call('PUBLISH', channel .. string.match(first, '^[^.]+'), first) end
end
"""

ENTER = Script(
    _PLACES
    + """
-- KEYS: the tickets, then holders, row and heard of each claim. ARGV: id, ticket or 0, milliseconds of a lease and of
-- waiting unheard, whether it may wait, the channel, then limit and queue of each claim.
-- Gives 1 and nothing where a slot of each is held; else 0, the ticket (0: may not wait) and the claims that stop it.
local at, id, ticket = now(), ARGV[1], tonumber(ARGV[2])
local lease, patience, channel = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[6]
local stopping, full = {}, false
local claims = (#KEYS - 1) / 3
for i = 1, claims do
  local holders, row, heard = KEYS[3 * i - 1], KEYS[3 * i], KEYS[3 * i + 1]
  clean(holders, row, heard, at)
  local before = ticket == 0 and redis.call('ZCARD', row) or redis.call('ZCOUNT', row, '-inf', '(' .. ARGV[2])
  if redis.call('ZCARD', holders) + before >= tonumber(ARGV[5 + 2 * i]) then
    stopping[#stopping + 1] = i
    if ticket == 0 and redis.call('ZCARD', row) >= tonumber(ARGV[6 + 2 * i]) then full = true end
  end
end
if #stopping > 0 and ticket == 0 then
  if full or ARGV[5] == '0' then return {0, 0, unpack(stopping)} end
  ticket = redis.call('INCR', KEYS[1])
end
local stops = {}
for _, i in ipairs(stopping) do stops[i] = true end
for i = 1, claims do
  local holders, row, heard = KEYS[3 * i - 1], KEYS[3 * i], KEYS[3 * i + 1]
  if stops[i] then
    redis.call('ZADD', row, string.format('%d', ticket), id)
    redis.call('ZADD', heard, at + patience, id)
    redis.call('PEXPIRE', row, 2 * patience)
    redis.call('PEXPIRE', heard, 2 * patience)
  else
    local left = redis.call('ZREM', row, id)
    redis.call('ZREM', heard, id)
    if #stopping == 0 then
      redis.call('ZADD', holders, at + lease, id)
      redis.call('PEXPIRE', holders, 2 * lease)
    end
    if left == 1 and redis.call('ZCARD', holders) < tonumber(ARGV[5 + 2 * i]) then call_first(row, channel) end
  end
end
if #stopping == 0 then return {1} end
return {0, ticket, unpack(stopping)}
"""
)

LEAVE = Script(
    _PLACES
    + """
-- KEYS: holders, row and heard of each claim. ARGV: id, the channel. It neither holds nor waits any more.
for i = 1, #KEYS, 3 do
  redis.call('ZREM', KEYS[i], ARGV[1])
  redis.call('ZREM', KEYS[i + 1], ARGV[1])
  redis.call('ZREM', KEYS[i + 2], ARGV[1])
  call_first(KEYS[i + 1], ARGV[2])
end
return 1
"""
)

RENEW = Script(
    _PLACES
    + """
-- KEYS: holders, for each ARGV after the first an id. ARGV: milliseconds of a lease. Also for a store that forgot them.
local due = now() + tonumber(ARGV[1])
for i, holders in ipairs(KEYS) do
  redis.call('ZADD', holders, due, ARGV[i + 1])
  redis.call('PEXPIRE', holders, 2 * tonumber(ARGV[1]))
end
return 1
"""
)
