"""Scripts: a copy of a stream in the store that gateways share, each step all or nothing.

`KEYS[1]` is a Redis Stream whose entry `1-N` holds the frames up to number N; `KEYS[2]` is what is known of it. The
copy is there as long as its gateway says so every few seconds, and for `keep` after its end. What is sent twice is
taken once, and what would leave a hole is not taken: the answer says how far the copy is.
"""

from __future__ import annotations

from sidegate.shared.script import Script

_AGE = """
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local function age()
  local read = redis.call('HGET', KEYS[2], 'read')
  if read then return now - read end
  return -1
end
"""

APPEND = Script(
    _AGE
    + """
local first, last, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[4])
local tip = tonumber(redis.call('HGET', KEYS[2], 'tip') or '0')
if ARGV[8] == '1' and tip < first - 1 then
  redis.call('DEL', KEYS[1], KEYS[2])
  tip = first - 1
end
if tip == first - 1 then
  if redis.call('EXISTS', KEYS[2]) == 0 then
    redis.call('HSET', KEYS[2], 'caller', ARGV[6], 'dialect', ARGV[7], 'size', 0, 'trimmed', tip)
  end
  redis.call('XADD', KEYS[1], '1-' .. last, 'f', first, 'd', ARGV[3])
  redis.call('HSET', KEYS[2], 'tip', last)
  tip = last
  local size = redis.call('HINCRBY', KEYS[2], 'size', #ARGV[3])
  while size > most do
    local old = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
    redis.call('XDEL', KEYS[1], old[1])
    size = redis.call('HINCRBY', KEYS[2], 'size', -#old[2][4])
    redis.call('HSET', KEYS[2], 'trimmed', string.sub(old[1], 3))
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
return {tip, age()}
"""
)
"""Frames `first` to `last`, the most bytes, the lease in milliseconds, caller, dialect, and 1 where what was before is
not kept any more. Gives how far it is, and the milliseconds since somebody has read it, or -1."""

KEEP = Script(
    _AGE
    + """
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[1])
return {tonumber(redis.call('HGET', KEYS[2], 'tip') or '0'), age()}
"""
)
"""Its gateway lives."""

END = Script("""
local tip = tonumber(redis.call('HGET', KEYS[2], 'tip') or '0')
if tip == tonumber(ARGV[1]) and tip > 0 then
  redis.call('HSET', KEYS[2], 'ended', ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  redis.call('PEXPIRE', KEYS[2], ARGV[3])
end
return {tip, -1}
""")
"""It has ended, with this number, so; it is kept for so many milliseconds."""

DROP = Script("return redis.call('DEL', KEYS[1], KEYS[2])")

READ = Script("""
local about = redis.call('HMGET', KEYS[2], 'caller', 'dialect', 'tip', 'trimmed', 'ended')
if not about[1] or about[1] ~= ARGV[1] then return {} end
local now = redis.call('TIME')
redis.call('HSET', KEYS[2], 'read', now[1] * 1000 + math.floor(now[2] / 1000))
local said = {}
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '(1-' .. ARGV[2], '+', 'COUNT', ARGV[3])) do
  said[#said + 1] = entry[2][2]
  said[#said + 1] = string.sub(entry[1], 3)
  said[#said + 1] = entry[2][4]
end
return {about[2], tonumber(about[3]), tonumber(about[4]), about[5] or '', said}
""")
"""A caller's own behind a number, so many entries. Gives dialect, how far it is, what is trimmed, how it ended or an
empty string, and first, last and data of each; nothing where it is not there, or another's."""

NAME = Script("return redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])")
NAMED = Script("return redis.call('GET', KEYS[1])")
