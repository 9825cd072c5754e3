-- Settle what one node has counted of quotas with what the others have.
--
-- KEYS  one for each holder of a quota
-- ARGV  1 the node   2 for how long its counts of connections hold, in ms   then three for each key:
--       "r", what was taken since the last time, what may be taken a second; or
--       "c", the connections that are open at the node, and 0
-- Returns for each key what is owed of the rate by now, or how many connections the other nodes have; as text.
-- Redis's own clock is the one that counts; if it goes back, no time has passed.
local time = redis.call("TIME")
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local node, lease = ARGV[1], tonumber(ARGV[2])
local totals = {}
for i, key in ipairs(KEYS) do
    local kind, count, rate = ARGV[3 * i], tonumber(ARGV[3 * i + 1]), tonumber(ARGV[3 * i + 2])
    if kind == "r" then
        local had = redis.call("HMGET", key, "level", "at")
        local level, at = tonumber(had[1] or "0"), tonumber(had[2] or now)
        level = math.max(0, level - math.max(0, now - at) * rate / 1000) + count
        redis.call("HSET", key, "level", string.format("%.3f", level), "at", string.format("%.0f", math.max(now, at)))
        redis.call("PEXPIRE", key, math.ceil(level / rate * 1000) + 1000)
        totals[i] = string.format("%.3f", level)
    else
        local total = 0
        local had = redis.call("HGETALL", key)
        for j = 1, #had, 2 do
            local open, ends = string.match(had[j + 1], "^(%d+):(%d+)$")
            if had[j] ~= node and open and tonumber(ends) > now then
                total = total + tonumber(open)
            elseif had[j] ~= node then
                redis.call("HDEL", key, had[j])
            end
        end
        if count > 0 then
            redis.call("HSET", key, node, string.format("%d:%.0f", count, now + lease))
            redis.call("PEXPIRE", key, lease)
        else
            redis.call("HDEL", key, node)
        end
        totals[i] = tostring(total)
    end
end
return totals
