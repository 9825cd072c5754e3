-- Say which users are offline by now, and whether all is there that is needed to know it.
--
-- KEYS  1 the stream   2 the outbox   3 users who have no connection any more, by when they are offline
--       4 who is connected   5 who is connected at this node   6 how far this node has got (see events_append)
-- ARGV  1 how many the stream keeps (0: none)   2 how many the outbox holds (0: none)   3 the node
--       4 what the ids of these events begin with   5 how many at a time   6 a generation, if there is none
--       7 milliseconds until a user is offline   8 whether this node has said how many are here (1 or 0)
-- Returns how many these were; -1 if Redis has lost a part of what this node had written.
local stream, outbox, users = tonumber(ARGV[1]), tonumber(ARGV[2]), KEYS[4]
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local generation = redis.call("HGET", users, "")
if not generation then
  generation = ARGV[6]
  redis.call("HSET", users, "", generation)
end
-- A member that nobody has tells whether the others were thrown away.
if not redis.call("ZSCORE", KEYS[3], "") then
  redis.call("ZADD", KEYS[3], "+inf", "")
  local known = redis.call("HGETALL", users)
  for at = 1, #known, 2 do
    if known[at + 1] == "0" and string.sub(known[at], 1, 1) == "u" then
      redis.call("ZADD", KEYS[3], "NX", now + tonumber(ARGV[7]), string.sub(known[at], 2))
    end
  end
end
local due = redis.call("ZRANGEBYSCORE", KEYS[3], "-inf", now, "LIMIT", 0, ARGV[5])
for number, user in ipairs(due) do
  redis.call("ZREM", KEYS[3], user)
  redis.call("HDEL", users, "u" .. user)
  local id = ARGV[4] .. number
  local json = cjson.encode({
    id = id, event = "user_offline", timestamp = now / 1000, node = ARGV[3], user_id = user})
  if stream > 0 then
    redis.call("XADD", KEYS[1], "MAXLEN", "~", stream, "*", "id", id, "event", "user_offline", "json", json)
  end
  if outbox > 0 then
    redis.call("XADD", KEYS[2], "MAXLEN", outbox, "*",
      "order", "u" .. user, "id", id, "event", "user_offline", "json", json, "born", now)
  end
end
local got = redis.call("GET", KEYS[6])
if ARGV[8] == "1" and got ~= "buried" then
  local _, of, here = string.match(got or "", "^(%d+) (%S+) (%d+)$")
  if of ~= generation or tonumber(here) ~= redis.call("HLEN", KEYS[5]) then return -1 end
end
return #due
