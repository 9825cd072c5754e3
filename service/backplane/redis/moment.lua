-- What time it is for offsets: whatever is published from now on has a greater one.
--
-- KEYS  1 the epoch   2 the index of streams
-- Returns {the epoch's name (empty: it has none), that offset, Redis's time in microseconds, spans of offsets that only a
-- Redis has given out of which this one is an older state ("after-before after-before …")}.
-- Redis's clock may go back, so the greatest moment that was given out is kept. A Redis that is full may refuse to; then
-- it is the offset of the event that was published last, and that is as good.
local function text(number) return string.format("%.0f", number) end

local time = redis.call("TIME")
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local epoch = redis.call("HMGET", KEYS[1], "name", "clock", "gone")
if not epoch[1] or not redis.call("ZSCORE", KEYS[2], "") then return {"", "0", text(now), ""} end
local clock = tonumber(epoch[2] or "0")
if now > clock and type(redis.pcall("HSET", KEYS[1], "clock", text(now))) == "number" then clock = now end
return {epoch[1], text(clock), text(now), epoch[3] or ""}
