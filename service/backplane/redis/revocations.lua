-- Revocations: one call of one operation on them.
--
-- KEYS  1 what they are (a hash, by subject)   2 the subjects by the number of their last change
--       3 the subjects by the moment at which they end, by Redis's clock   4 the generation, the number of the last change, and the epoch
--       5 the epoch of the histories, which ends where this Redis may lack what another had accepted
-- ARGV  1 the operation   2 and on: its arguments
-- The generation is a name that is lost with the rest, or with any part of it, and with the epoch: nodes that knew
-- another give back what they have.
local all, order, ends, meta = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local function now()
  local time = redis.call("TIME")
  return time[1] + time[2] / 1000000
end
-- By how many seconds a node's clock is ahead of Redis's: less than one counts as none.
local function ahead(wall)
  local seconds = tonumber(wall) - now()
  return math.abs(seconds) < 1 and 0 or seconds
end
local function forget_old()
  local over = redis.call("ZRANGEBYSCORE", ends, "-inf", now(), "LIMIT", 0, 1000)
  if #over > 0 then
    redis.call("HDEL", all, unpack(over))
    redis.call("ZREM", order, unpack(over))
    redis.call("ZREM", ends, unpack(over))
  end
end
local function keep(subject, revocation, ends_at)
  local number = redis.call("HINCRBY", meta, "number", 1)
  redis.call("HSET", all, subject, revocation)
  redis.call("ZADD", order, number, subject)
  redis.call("ZADD", ends, ends_at, subject)
end

local operations = {}

-- Keep one, which ends by the clock of the node, where it is `wall`. Returns 1, or 0 where there are too many.
function operations.add(limit, wall, subject, revocation, expires_at)
  forget_old()
  if redis.call("ZCARD", order) >= tonumber(limit) and not redis.call("HGET", all, subject) then return 0 end
  keep(subject, revocation, expires_at - ahead(wall))
  return 1
end

-- When a revocation was made; 0 for what can't be read.
local function made_at(revocation)
  local readable, fields = pcall(cjson.decode, revocation)
  return readable and type(fields) == "table" and tonumber(fields[4]) or 0
end

-- Keep those of some that are not there, or only as they were before a later change. Arguments: subject, revocation,
-- expires_at by the node's clock, and so on.
function operations.restore(wall, ...)
  local given = {...}
  for at = 1, #given, 3 do
    local kept = redis.call("HGET", all, given[at])
    if not kept or made_at(kept) < made_at(given[at + 1]) then
      keep(given[at], given[at + 1], given[at + 2] - ahead(wall))
    end
  end
  return 1
end

-- Whether nothing of them was thrown away: Redis evicts a key as a whole.
local function whole()
  local number = redis.call("ZCARD", order)
  return number == redis.call("ZCARD", ends) and (number > 0) == (redis.call("EXISTS", all) == 1)
end

-- Keep what is left of them: as they are, or else by their names and ends. Of one whose moment is not known any more
-- everything counts that was issued until now. What a node gives back takes its place.
local function keep_rest()
  local rest, moment = {}, now()
  local kept = redis.call("HGETALL", all)
  for at = 1, #kept, 2 do
    local readable, fields = pcall(cjson.decode, kept[at + 1])
    if readable and type(fields) == "table" and tonumber(fields[5]) then
      rest[kept[at]] = {kept[at + 1], redis.call("ZSCORE", ends, kept[at]) or fields[5]}
    end
  end
  local ending = redis.call("ZRANGE", ends, 0, -1, "WITHSCORES")
  for at = 1, #ending, 2 do
    local kind, mark, value = string.match(ending[at], "^([a-z_]+)([:<])(.*)$")
    if kind and not rest[ending[at]] then
      local before = mark == "<" and moment or cjson.null
      rest[ending[at]] = {cjson.encode({kind, value, before, 0, tonumber(ending[at + 1])}), ending[at + 1]}
    end
  end
  redis.call("DEL", all, order, ends, meta)
  for subject, one in pairs(rest) do keep(subject, one[1], one[2]) end
end

-- What has changed after a number, oldest first. Returns the generation (`new` if there was none), the number of the
-- last change that is given, how many more may follow (1 or 0), the revocations, when each ends, and by how many
-- seconds the node is ahead.
function operations.since(wall, generation, number, count, new)
  forget_old()
  local mine = redis.call("HGET", meta, "generation")
  local epoch = redis.call("HGET", KEYS[5], "name") or ""
  if not mine or not whole() then
    keep_rest()
    mine = nil
  end
  if not mine or redis.call("HGET", meta, "epoch") ~= epoch then
    redis.call("HSET", meta, "generation", new, "epoch", epoch)
    mine = new
  end
  if mine ~= generation then number = 0 end
  local found = redis.call("ZRANGEBYSCORE", order, "(" .. number, "+inf", "WITHSCORES", "LIMIT", 0, count)
  local subjects, ending, last = {}, {}, number
  for at = 1, #found, 2 do
    subjects[#subjects + 1] = found[at]
    ending[#ending + 1] = redis.call("ZSCORE", ends, found[at]) or "0"
    last = found[at + 1]
  end
  local revocations = #subjects > 0 and redis.call("HMGET", all, unpack(subjects)) or {}
  return {mine, tostring(last), #subjects == tonumber(count) and 1 or 0, revocations, ending, tostring(ahead(wall))}
end

return operations[ARGV[1]](unpack(ARGV, 2))
