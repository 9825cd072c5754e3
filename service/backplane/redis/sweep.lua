-- Take out of Redis what is over: events whose own time has passed, and streams of which everything is too old.
--
-- KEYS  1 the index of streams, by the moment of their last event   2 what lapses, by the moment   3 sizes of streams
--       4 the epoch
-- ARGV  1 what the name of a history begins with   2 and of what is known of a stream besides   3 microseconds that
--       events are kept   4 how many of each at most   5 the moment by which events may be taken for lapsed, if Redis's
--       clock is ahead of what the node thinks (0: it has no opinion)
-- Returns {bytes of all events, streams, 1 if there is more to do}.
-- Redis's clock may be ahead, and be put right: then streams went that were not too old. So the greatest offset that
-- went with any of them is kept, and tells whether a stream that isn't there is whole. Likewise, of each stream, the
-- greatest offset of the events that went since they had lapsed, and the latest moment at which one of them did: as long
-- as that is still to come, they went too soon.
local time = redis.call("TIME")
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local function text(number) return string.format("%.0f", number) end
local function history(stream) return ARGV[1] .. stream .. "}" end

local by = tonumber(ARGV[5])
by = by > 0 and math.min(by, now) or now
local lapsed = redis.call("ZRANGEBYSCORE", KEYS[2], "-inf", text(by), "WITHSCORES", "LIMIT", 0, ARGV[4])
for at = 1, #lapsed, 2 do
  local member, till = lapsed[at], tonumber(lapsed[at + 1])
  local offset, size, stream = string.match(member, "^(%d+):(%d+):(.*)$")
  -- An empty history stays, and shows that nobody threw it away.
  if redis.call("XDEL", history(stream), offset .. "-0") == 1 then
    local meta = ARGV[2] .. stream .. "}"
    local known = redis.call("HMGET", meta, "last", "lapsed", "till")
    if known[1] then
      offset, till = math.max(tonumber(offset), tonumber(known[2] or "0")), math.max(till, tonumber(known[3] or "0"))
      redis.call("HSET", meta, "lapsed", text(offset), "till", text(till))
    end
    redis.call("HINCRBY", KEYS[3], stream, 0 - size)
    redis.call("HINCRBY", KEYS[3], "", 0 - size)
  end
  redis.call("ZREM", KEYS[2], member)
end

local old = redis.call("ZRANGEBYSCORE", KEYS[1], "-inf", text(now - tonumber(ARGV[3])), "LIMIT", 0, ARGV[4])
local swept = 0
for _, stream in ipairs(old) do
  local meta = ARGV[2] .. stream .. "}"
  local last = redis.call("HGET", meta, "last") or redis.call("ZSCORE", KEYS[1], stream)
  swept = math.max(swept, tonumber(last))
  redis.call("DEL", history(stream), meta)
  redis.call("ZREM", KEYS[1], stream)
  redis.call("HINCRBY", KEYS[3], "", 0 - (redis.call("HGET", KEYS[3], stream) or "0"))
  redis.call("HDEL", KEYS[3], stream)
end

-- A Redis that is full refuses this alone, but not after the above.
if old[1] and swept > tonumber(redis.call("HGET", KEYS[4], "swept") or "0") then
  redis.call("HSET", KEYS[4], "swept", text(swept))
end

local more = (#lapsed == 2 * tonumber(ARGV[4]) or #old == tonumber(ARGV[4])) and 1 or 0
return {tonumber(redis.call("HGET", KEYS[3], "") or "0"), math.max(redis.call("ZCARD", KEYS[1]) - 1, 0), more}
