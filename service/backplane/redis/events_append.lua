-- Put events of one node into the log of the deployment, each once.
--
-- KEYS  1 the stream for those who read it   2 the outbox   3 who is connected at the node that they are of
--       4 users who have no connection any more, by when they are offline   5 how far the writer has got
-- ARGV  1 how many the stream keeps (0: none)   2 how many the outbox holds (0: none)   3 the number of the first
--       4 what the key of a user's connections begins with   5 the node   6 milliseconds until a user is offline
--       then for each: what it is, its connection, its user, its order, its id, its JSON
-- Returns -1 if Redis has lost all that the writer had written before (nothing was done), else how many are lost: those
-- that the outbox dropped, and the last of the writer's that Redis has lost.
--
-- A `left` counts only for a connection that is known, whoever says it: so there is one for each. `present` says that a
-- connection is there, and tells nobody.
local stream, outbox, number = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local seen = redis.call("GET", KEYS[5])
if not seen and number > 1 then return -1 end
seen = tonumber(seen or "0")
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- A replica in its master's place may lack the last that the writer had put there; nobody has them any more.
local dropped = math.max(0, number - 1 - seen)

local function put(order, id, event, json)
  if stream > 0 then
    redis.call("XADD", KEYS[1], "MAXLEN", "~", stream, "*", "id", id, "event", event, "json", json)
  end
  if outbox > 0 then
    if redis.call("XLEN", KEYS[2]) >= outbox then dropped = dropped + 1 end
    redis.call("XADD", KEYS[2], "MAXLEN", outbox, "*",
      "order", order, "id", id, "event", event, "json", json, "born", now)
  end
end

for at = 7, #ARGV, 6 do
  if number > seen then
    local event, connection, user = ARGV[at], ARGV[at + 1], ARGV[at + 2]
    local order, id, json = ARGV[at + 3], ARGV[at + 4], ARGV[at + 5]
    local here = ARGV[4] .. user
    if event == "registered" or event == "present" then
      redis.call("HSET", KEYS[3], connection, json)
      if event == "registered" then put(order, id, event, json) end
      if user ~= "" then
        local first = redis.call("SCARD", here) == 0
        redis.call("SADD", here, connection)
        if first and redis.call("ZREM", KEYS[4], user) == 0 and event == "registered" then
          local name = "user_online"
          put(order, id .. "-online", name, cjson.encode({
            id = id .. "-online", event = name, timestamp = now / 1000, node = ARGV[5], user_id = user}))
        end
      end
    elseif event == "left" then
      if redis.call("HDEL", KEYS[3], connection) == 1 then
        put(order, id, event, json)
        if user ~= "" and redis.call("SREM", here, connection) == 1 and redis.call("SCARD", here) == 0 then
          redis.call("ZADD", KEYS[4], now + tonumber(ARGV[6]), user)
        end
      end
    else
      put(order, id, event, json)
    end
  end
  number = number + 1
end
redis.call("SET", KEYS[5], math.max(seen, number - 1), "EX", 86400)
return dropped
