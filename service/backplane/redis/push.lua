-- Publish one event, atomically: once for its id, kept in the stream's history, sent to whoever listens.
--
-- KEYS  1 what became of this id   2 the stream's meta   3 its history
-- ARGV  1 channel   2 body   3 seconds to remember the id (0: it has none)
--       4 events to keep (0: not durable)   5 microseconds to keep them   6 microseconds that this one is worth
--       something (0: as long as it is kept)   7 offset that must be passed   8 seconds that the keys live
--       9 PUBLISH or SPUBLISH
-- Returns {1, what the id holds, for how many milliseconds more} if it was known; else {0, nodes that got it, offset}
-- (offset 0: not durable).
local function text(number) return string.format("%.0f", number) end

local remember, length = tonumber(ARGV[3]), tonumber(ARGV[4])
if remember > 0 then
  local known = redis.call("GET", KEYS[1])
  if known then return {1, known, redis.call("PTTL", KEYS[1])} end
end

local offset = 0
local message = "\1" .. ARGV[2]
if length > 0 then
  local clock = redis.call("TIME")
  local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
  local meta = redis.call("HMGET", KEYS[2], "last", "dropped")
  local last, dropped = tonumber(meta[1] or "0"), tonumber(meta[2] or "0")
  offset = math.max(now, last + 1, tonumber(ARGV[7]) + 1)
  -- What is known of a stream ends long after its events do: without it there is nothing younger than they may be.
  if not meta[1] then dropped = math.max(offset - tonumber(ARGV[5]), 0) end

  local worth = tonumber(ARGV[6])
  local till = worth > 0 and text(now + worth) or "0"
  redis.call("XADD", KEYS[3], text(offset) .. "-0", "e", ARGV[2], "u", till)
  local excess = redis.call("XLEN", KEYS[3]) - length
  if excess > 0 then
    local gone = redis.call("XRANGE", KEYS[3], "-", "+", "COUNT", excess)
    dropped = math.max(dropped, tonumber(string.match(gone[excess][1], "^%d+")))
    redis.call("XTRIM", KEYS[3], "MAXLEN", length)
  end
  local oldest = text(math.max(offset - tonumber(ARGV[5]), 0))
  local gone = redis.call("XREVRANGE", KEYS[3], "(" .. oldest .. "-0", "-", "COUNT", 1)
  if gone[1] then
    dropped = math.max(dropped, tonumber(string.match(gone[1][1], "^%d+")))
    redis.call("XTRIM", KEYS[3], "MINID", oldest .. "-0")
  end
  redis.call("HSET", KEYS[2], "last", text(offset), "dropped", text(dropped))
  redis.call("EXPIRE", KEYS[2], ARGV[8])
  redis.call("EXPIRE", KEYS[3], ARGV[8])
  message = "\2" .. struct.pack(">I8I8", offset, last) .. ARGV[2]
end

if remember > 0 then
  redis.call("SET", KEYS[1], "\0" .. struct.pack(">I8", offset), "EX", remember)
end
return {0, redis.call(ARGV[9], ARGV[1], message), text(offset)}
