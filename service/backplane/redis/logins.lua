-- Login sessions: one call of one operation on them.
--
-- KEYS  1 the index of all sessions, by the moment at which they expire
-- ARGV  1 what the other keys begin with (they are in the same slot)   2 the operation   3 and on: its arguments
-- Of each session there is a hash (its user, and what it is as JSON) and a list of the feedback on it; of each user an
-- index of sessions, in the order of starting. A session is given as {JSON, {feedback, …}}, or false where there is none.
local all, prefix = KEYS[1], ARGV[1]
local function of_user(user) return prefix .. "logins:" .. user end
local function at(id) return prefix .. "login:" .. id end
local function feedback_on(id) return prefix .. "login-feedback:" .. id end
local function read(id)
  local login = redis.call("HGET", at(id), "login")
  return login and {login, redis.call("LRANGE", feedback_on(id), 0, -1)}
end
-- One that the index hasn't got would never expire: Redis may have thrown the index away for want of memory.
local function look_up(id)
  return redis.call("ZSCORE", all, id) and read(id)
end
local function current(user)
  return redis.call("ZRANGE", of_user(user), -1, -1)[1]
end
local function forget(id)
  local user = redis.call("HGET", at(id), "user")
  if user then redis.call("ZREM", of_user(user), id) end
  redis.call("ZREM", all, id)
  redis.call("DEL", at(id), feedback_on(id))
end
local function now()
  local time = redis.call("TIME")
  return time[1] + time[2] / 1000000
end

local operations = {}

-- Keep one. Returns 1, or 0 where there are too many.
function operations.start(id, user, login, ttl, limit)
  if redis.call("ZCARD", all) >= tonumber(limit) then return 0 end
  local last = redis.call("ZRANGE", of_user(user), -1, -1, "WITHSCORES")
  redis.call("HSET", at(id), "user", user, "login", login)
  redis.call("ZADD", of_user(user), (last[2] or 0) + 1, id)
  redis.call("ZADD", all, now() + ttl, id)
  return 1
end

-- The one of an id.
function operations.get(id)
  return look_up(id)
end

-- A user's that was started last.
function operations.current(user)
  local id = current(user)
  return id and look_up(id)
end

-- All of a user's, oldest first.
function operations.of_user(user)
  local found = {}
  for _, id in ipairs(redis.call("ZRANGE", of_user(user), 0, -1)) do
    found[#found + 1] = look_up(id) or nil
  end
  return found
end

-- Forget one; returns what it was.
operations["end"] = function(id)
  local found = read(id)
  forget(id)
  return found
end

-- Keep a report on one (id empty: the user's current one), and the newest so many of them. Returns its id, or false.
function operations.report(user, id, feedback, kept)
  if id == "" then id = current(user) end
  -- Her own index first: one that is another's is refused by what one that is nobody's is, and in the same time.
  if not id or not redis.call("ZSCORE", of_user(user), id) then return false end
  if not redis.call("ZSCORE", all, id) or redis.call("HGET", at(id), "user") ~= user then return false end
  redis.call("RPUSH", feedback_on(id), feedback)
  redis.call("LTRIM", feedback_on(id), -kept, -1)
  return id
end

-- Forget some that have expired. Returns how many are left over all, and what the forgotten ones were.
function operations.expired(most)
  local found = {}
  for _, id in ipairs(redis.call("ZRANGEBYSCORE", all, "-inf", now(), "LIMIT", 0, most)) do
    found[#found + 1] = look_up(id) or nil
    forget(id)
  end
  return {redis.call("ZCARD", all), found}
end

return operations[ARGV[2]](unpack(ARGV, 3))
