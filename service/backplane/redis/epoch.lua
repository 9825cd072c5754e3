-- Which epoch the history is of: as long as it has the same name, nothing of it was lost as a whole.
--
-- KEYS  1 the epoch   2 the index of streams
-- ARGV  1 the run of this Redis
--       2 whether it has all that it accepted before (1 or 0): it writes that down before it answers, and is no replica
--         that was promoted
--       3 a name for a new epoch   4 the name of one that is over, or empty
--       5 where this Redis is, if others may take its place, or empty
--       6 the epoch that the node knows   7 the greatest offset that it has seen
--       8 the run whose place this Redis took with all that that one had, or empty
--       9 the greatest offset that another Redis than this accepted from the node, or 0
--       10 how many microseconds ago that was, at least
-- A Redis that has been restarted without such a log has lost what it accepted, or some of it: a new epoch. So may
-- have one that was a replica, which after a restart of its own is known by nothing but its place. And it has, where a
-- node has seen what it doesn't know of: in the same epoch nothing is greater than the clock; and of what a node had
-- accepted by the Redis before this one, nothing is greater than the clock was when this one took over. (But where this
-- one has begun the epoch, and after that was accepted, everybody was told already: a Redis that comes back with nothing
-- knows no clock to compare it with, and the nodes come one after the other.)
-- Returns the epoch's name.
--
-- What an older file of a Redis was restored to, nothing here tells, if no node was there meanwhile. But whoever names a
-- position that was given out between the clock of that file and the moment at which this Redis took over has had what
-- is gone. So these spans are kept, of the last restarts: of one that lost nothing nobody has such a position.
local function text(number) return string.format("%.0f", number) end
local SPANS = 8

-- A Redis that is full refuses to write, but lets a script go on that has written something.
redis.call("PERSIST", KEYS[1])
local known = redis.call("HMGET", KEYS[1], "name", "run", "at", "clock", "taken", "began", "gone")
local name, clock, seen = known[1], tonumber(known[4] or "0"), tonumber(ARGV[7])
local restarted = known[2] ~= ARGV[1]
local another = ARGV[5] ~= "" and known[3] ~= ARGV[5]
local whole = ARGV[8] ~= "" and ARGV[8] == known[2]
local taken = restarted and clock or tonumber(known[5] or "0")
local time = redis.call("TIME")
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
-- By the clock of this very Redis; 0: the epoch has begun before it took over.
local began = restarted and 0 or tonumber(known[6] or "0")
local told = began <= now and now - tonumber(ARGV[10]) < began

local gone = known[7] or ""
if restarted and clock > 0 and now > clock then
  gone = text(clock) .. "-" .. text(now) .. " " .. gone
  local last = select(2, string.find(gone, "^" .. string.rep("%S+ ", SPANS)))
  gone = last and string.sub(gone, 1, last) or gone
end
-- Another node, which had not come as far, may have moved the clock on since.
local function is_gone(offset)
  for after, before in string.gmatch(gone, "(%d+)-(%d+)") do
    if tonumber(after) < offset and offset < tonumber(before) then return true end
  end
  return false
end

local over = not name or name == ARGV[4] or not redis.call("ZSCORE", KEYS[2], "")
over = over or (restarted and not whole and (another or ARGV[2] ~= "1"))
over = over or (name == ARGV[6] and (seen > clock or is_gone(seen))) or (tonumber(ARGV[9]) > taken and not told)
if over then
  name, began, gone = ARGV[3], now, ""
  redis.call("ZADD", KEYS[2], "+inf", "")
end
if over or restarted or seen > clock then
  redis.call(
    "HSET", KEYS[1], "name", name, "run", ARGV[1], "at", ARGV[5], "clock", text(math.max(clock, seen)),
    "taken", text(taken), "began", text(began), "gone", gone
  )
end
return name
