-- Publish one event, atomically: once for its id, kept in the stream's history, sent to whoever listens.
--
-- KEYS  1 what became of this id   2 the stream's meta   3 its history   4 the epoch   5 the index of streams
--       6 their sizes   7 what lapses
-- ARGV  1 channel   2 body   3 seconds to remember the id (0: it has none)
--       4 events to keep (0: not durable)   5 microseconds to keep them   6 microseconds that this one is worth
--       something (0: as long as it is kept)   7 offset that must be passed   8 seconds that the history lives
--       9 PUBLISH or SPUBLISH   10 the stream   11 the epoch that the publisher knows
-- Returns {2, the epoch's name} if that is another (empty: it has none), and nothing was done;
-- {1, what the id holds, for how many milliseconds more} if that was known; else {0, nodes that got it, offset}
-- (offset 0: not durable).
local function text(number) return string.format("%.0f", number) end

local epoch = redis.call("HMGET", KEYS[4], "name", "clock", "swept")
if epoch[1] ~= ARGV[11] then return {2, epoch[1] or ""} end

local remember, length = tonumber(ARGV[3]), tonumber(ARGV[4])
if remember > 0 then
  local known = redis.call("GET", KEYS[1])
  if known then return {1, known, redis.call("PTTL", KEYS[1])} end
end

local offset = 0
local named = struct.pack(">B", #ARGV[11]) .. ARGV[11] .. ARGV[2]
local message = "\6" .. named
if length > 0 then
  local time = redis.call("TIME")
  local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
  local oldest = text(math.max(now - tonumber(ARGV[5]), 0))
  local meta = redis.call("HMGET", KEYS[2], "last", "dropped")
  local last, dropped = tonumber(meta[1] or "0"), tonumber(meta[2] or "0")
  -- A moment, but greater than whatever was given out as an offset or a position before.
  offset = math.max(now, last + 1, tonumber(epoch[2] or "0") + 1, tonumber(ARGV[7]) + 1)

  -- The first thing that is written is one that a full Redis refuses: then nothing is done.
  redis.call("HSET", KEYS[4], "clock", text(offset))

  local worth = tonumber(ARGV[6])
  local till = worth > 0 and text(now + worth) or "0"
  local size, id = #ARGV[2], text(offset) .. "-0"
  local added = meta[1] and redis.call("XADD", KEYS[3], "NOMKSTREAM", id, "e", ARGV[2], "u", till)
  if not added then
    if meta[1] then
      -- Redis has thrown the history away, or it was too old.
      dropped = last
    elseif redis.call("ZSCORE", KEYS[5], ARGV[10]) then
      -- Redis has thrown away what was known of the stream: nothing before this event can be proved.
      last = offset - 1
      dropped = last
    else
      -- Nothing was published here yet, or it was swept.
      dropped = tonumber(epoch[3] or oldest)
    end
    redis.call("DEL", KEYS[3])
    redis.call("HINCRBY", KEYS[6], "", 0 - (redis.call("HGET", KEYS[6], ARGV[10]) or "0"))
    redis.call("HDEL", KEYS[6], ARGV[10])
    redis.call("XADD", KEYS[3], id, "e", ARGV[2], "u", till)
  end

  local excess = redis.call("XLEN", KEYS[3]) - length
  if excess > 0 then
    local gone = redis.call("XRANGE", KEYS[3], "-", "+", "COUNT", excess)
    for _, entry in ipairs(gone) do size = size - #entry[2][2] end
    dropped = math.max(dropped, tonumber(string.match(gone[excess][1], "^%d+")))
    redis.call("XTRIM", KEYS[3], "MAXLEN", length)
  end
  local old = redis.call("XRANGE", KEYS[3], "-", "(" .. oldest .. "-0", "COUNT", length)
  if old[1] then
    for _, entry in ipairs(old) do size = size - #entry[2][2] end
    dropped = math.max(dropped, tonumber(string.match(old[#old][1], "^%d+")))
    redis.call("XTRIM", KEYS[3], "MINID", oldest .. "-0")
  end
  redis.call("HSET", KEYS[2], "last", text(offset), "dropped", text(dropped))
  -- Now and then is enough: the history lives much longer than its events. What is known of the stream stays until it
  -- is swept: Redis's clock may be put right after both would have run out, and nothing be left that tells of them.
  if not added or math.floor(now / 6e8) ~= math.floor(tonumber(meta[1]) / 6e8) then
    redis.call("PERSIST", KEYS[2])
    redis.call("EXPIRE", KEYS[3], ARGV[8])
  end
  redis.call("ZADD", KEYS[5], text(now), ARGV[10])
  redis.call("HINCRBY", KEYS[6], ARGV[10], size)
  redis.call("HINCRBY", KEYS[6], "", size)
  if worth > 0 and worth < tonumber(ARGV[5]) then
    redis.call("ZADD", KEYS[7], till, text(offset) .. ":" .. #ARGV[2] .. ":" .. ARGV[10])
  end
  message = "\7" .. struct.pack(">I8I8", offset, last) .. named
end

if remember > 0 then
  redis.call("SET", KEYS[1], "\0" .. struct.pack(">I8", offset), "EX", remember)
end
return {0, redis.call(ARGV[9], ARGV[1], message), text(offset)}
