-- Say which users are offline by now.
--
-- KEYS  1 the stream   2 the outbox   3 users who have no connection any more, by when they are offline
-- ARGV  1 how many the stream keeps (0: none)   2 how many the outbox holds (0: none)   3 the node
--       4 what the ids of these events begin with   5 how many at a time
-- Returns how many these were.
local stream, outbox = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local users = redis.call("ZRANGEBYSCORE", KEYS[3], "-inf", now, "LIMIT", 0, ARGV[5])
for number, user in ipairs(users) do
  redis.call("ZREM", KEYS[3], user)
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
return #users
