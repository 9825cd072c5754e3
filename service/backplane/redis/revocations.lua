-- Revocations: one call of one operation on them.
--
-- KEYS  1 what they are (a hash, by subject)   2 the subjects by the number of their last change
--       3 the subjects by the moment at which they end   4 the generation, and the number of the last change
-- ARGV  1 the operation   2 and on: its arguments
-- The generation is a name that is lost with the rest: nodes that knew another give back what they have.
local all, order, ends, meta = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local function now()
  local time = redis.call("TIME")
  return time[1] + time[2] / 1000000
end
local function forget_old()
  local over = redis.call("ZRANGEBYSCORE", ends, "-inf", now(), "LIMIT", 0, 1000)
  if #over > 0 then
    redis.call("HDEL", all, unpack(over))
    redis.call("ZREM", order, unpack(over))
    redis.call("ZREM", ends, unpack(over))
  end
end
local function keep(subject, revocation, expires_at)
  local number = redis.call("HINCRBY", meta, "number", 1)
  redis.call("HSET", all, subject, revocation)
  redis.call("ZADD", order, number, subject)
  redis.call("ZADD", ends, expires_at, subject)
end

local operations = {}

-- Keep one. Returns 1, or 0 where there are too many.
function operations.add(limit, subject, revocation, expires_at)
  forget_old()
  if redis.call("ZCARD", order) >= tonumber(limit) and not redis.call("HGET", all, subject) then return 0 end
  keep(subject, revocation, expires_at)
  return 1
end

-- Keep those of some that are not there. Arguments: subject, revocation, expires_at, and so on.
function operations.restore(...)
  local given = {...}
  for at = 1, #given, 3 do
    if not redis.call("HGET", all, given[at]) then keep(given[at], given[at + 1], given[at + 2]) end
  end
  return 1
end

-- What has changed after a number, oldest first. Returns the generation (`new` if there was none), the number of the
-- last change that is given, how many more may follow (1 or 0), and the revocations.
function operations.since(generation, number, count, new)
  forget_old()
  local mine = redis.call("HGET", meta, "generation")
  if not mine or redis.call("ZCARD", order) ~= redis.call("ZCARD", ends) then
    redis.call("DEL", all, order, ends, meta)
    redis.call("HSET", meta, "generation", new)
    mine = new
  end
  if mine ~= generation then number = 0 end
  local found = redis.call("ZRANGEBYSCORE", order, "(" .. number, "+inf", "WITHSCORES", "LIMIT", 0, count)
  local subjects, last = {}, number
  for at = 1, #found, 2 do
    subjects[#subjects + 1] = found[at]
    last = found[at + 1]
  end
  local revocations = #subjects > 0 and redis.call("HMGET", all, unpack(subjects)) or {}
  return {mine, tostring(last), #subjects == tonumber(count) and 1 or 0, revocations}
end

return operations[ARGV[1]](unpack(ARGV, 2))
