"""The scripts of shared rates: leaky buckets by the store's own clock, all claims of a call in one step.

A bucket is one key: its level and the microsecond it was looked at, two doubles of 8 bytes. So nothing is rounded on
the way in and out, and levels of up to 2^53 are exact to the token. It goes when it is drained. A clock that is set
back drains nothing until it goes on; one that is set forward drains what it says.
"""

from __future__ import annotations

import struct

from sidegate.shared.script import Script

_BUCKET = """
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

local function level(key, limit, period, at)
  local kept = redis.call('GET', key)
  if not kept or #kept ~= 16 then return 0 end
  local was, looked = struct.unpack('>dd', kept)
  return math.max(0, was - math.max(0, at - looked) * limit / period)
end

local function keep(key, limit, period, at, amount)
  if amount <= 0 then return redis.call('DEL', key) end
  local drained = string.format('%d', math.ceil(amount * period / limit / 1000) + 1)
  redis.call('SET', key, struct.pack('>dd', amount, at), 'PX', drained)
end
"""

TAKE = Script(
    _BUCKET
    + """
-- ARGV: for each key its limit, period in microseconds and amount. Gives whether all were taken, and the levels:
-- after, where they were taken; before, where not.
local at, short, found, levels = now(), 0, {}, {}
for i, key in ipairs(KEYS) do
  local limit, period = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1])
  levels[i] = level(key, limit, period, at)
  found[key] = (found[key] or levels[i]) + tonumber(ARGV[3 * i])
  if found[key] > limit + 1e-9 then short = 1 end
end
if short == 0 then
  for i, key in ipairs(KEYS) do
    levels[i] = found[key]
    if tonumber(ARGV[3 * i]) > 0 then
      keep(key, tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), at, found[key])
    end
  end
end
return struct.pack('>d' .. string.rep('d', #KEYS), short, unpack(levels))
"""
)

SETTLE = Script(
    _BUCKET
    + """
-- ARGV: limit, period in microseconds, what to take out as far as it is there, and what to put in, whatever the room.
local limit, period, at = tonumber(ARGV[1]), tonumber(ARGV[2]), now()
local left = math.max(0, level(KEYS[1], limit, period, at) - tonumber(ARGV[3]))
keep(KEYS[1], limit, period, at, left + tonumber(ARGV[4]))
return 1
"""
)


def told(reply: bytes) -> tuple[bool, tuple[float, ...]]:
    """What `TAKE` returned: whether all were taken, and the levels."""
    short, *levels = struct.unpack(f">{len(reply) // 8}d", reply)
    return short == 0, tuple(levels)
