-- Put events of one node into the log of the deployment, each once.
--
-- KEYS  1 the stream for those who read it   2 the outbox   3 who is connected at the node that they are of
--       4 users who have no connection any more, by when they are offline   5 how far the writer has got
--       6 who is connected: "c" and a connection: its user; "u" and a user: how many connections (0: offline soon);
--         "": the generation, which is lost with the rest; "b": there is an outbox
-- ARGV  1 how many the stream keeps (0: none)   2 how many the outbox holds (0: none)   3 the number of the first
--       4 whether the writer has said before how many are here (1 or 0)   5 a generation, if there is none
--       6 the node   7 milliseconds until a user is offline
--       then for each: what it is, its connection, its user, its order, its id, its JSON
-- Returns -1 if Redis has lost what the writer had written before, or any key of these (nothing was done), -2 if the
-- writer was buried, else how many are lost: those that the outbox dropped, and the last of the writer's that Redis has
-- lost.
--
-- A `left` counts only for a connection that is known, whoever says it: so there is one for each. `present` says that a
-- connection is there, and tells nobody.
local stream, outbox, number = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local users = KEYS[6]
local got = redis.call("GET", KEYS[5])
if got == "buried" then return -2 end
local generation = redis.call("HGET", users, "")
if not generation then
  generation = ARGV[5]
  redis.call("HSET", users, "", generation)
end
local seen, of, here = string.match(got or "", "^(%d+) (%S+) (%d+)$")
if not seen and ARGV[4] == "1" then return -1 end
if seen and (of ~= generation or tonumber(here) ~= redis.call("HLEN", KEYS[3])) then return -1 end
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

-- Count a connection of a user's. Whether that makes the user online.
local function count(connection, user)
  if redis.call("HSETNX", users, "c" .. connection, user) == 0 then return false end
  local before = redis.call("HGET", users, "u" .. user)
  redis.call("HINCRBY", users, "u" .. user, 1)
  return redis.call("ZREM", KEYS[4], user) == 0 and not before
end

-- Count it no more. One that was not counted any more, since that was thrown away, is the last where no other is known.
local function uncount(connection, user)
  local left
  if redis.call("HDEL", users, "c" .. connection) == 1 then
    left = redis.call("HINCRBY", users, "u" .. user, -1)
  else
    left = tonumber(redis.call("HGET", users, "u" .. user) or "0")
  end
  if left <= 0 then
    redis.call("HSET", users, "u" .. user, 0)
    redis.call("ZADD", KEYS[4], now + tonumber(ARGV[7]), user)
  end
end

for at = 8, #ARGV, 6 do
  if number > seen then
    local event, connection, user = ARGV[at], ARGV[at + 1], ARGV[at + 2]
    local order, id, json = ARGV[at + 3], ARGV[at + 4], ARGV[at + 5]
    if event == "registered" or event == "present" then
      redis.call("HSET", KEYS[3], connection, json)
      if event == "registered" then put(order, id, event, json) end
      if user ~= "" and count(connection, user) and event == "registered" then
        local name = "user_online"
        put(order, id .. "-online", name, cjson.encode({
          id = id .. "-online", event = name, timestamp = now / 1000, node = ARGV[6], user_id = user}))
      end
    elseif event == "left" then
      if redis.call("HDEL", KEYS[3], connection) == 1 then
        put(order, id, event, json)
        if user ~= "" then uncount(connection, user) end
      end
    else
      put(order, id, event, json)
    end
  end
  number = number + 1
end
if outbox > 0 and redis.call("EXISTS", KEYS[2]) == 1 then redis.call("HSET", users, "b", 1) end
local done = string.format("%d %s %d", math.max(seen, number - 1), generation, redis.call("HLEN", KEYS[3]))
redis.call("SET", KEYS[5], done, "EX", 86400)
return dropped
