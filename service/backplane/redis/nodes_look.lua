-- Which nodes there are, and which of them live.
--
-- KEYS  1 the index of nodes
-- ARGV  1 what the name of a lease begins with, before the node's name
-- Returns for each entry of the index: the entry, its node's lease (or false), and the milliseconds left of that.
local found = {}
for _, member in ipairs(redis.call("SMEMBERS", KEYS[1])) do
  local key = ARGV[1] .. string.match(member, " (.*)$")
  found[#found + 1] = {member, redis.call("GET", key), redis.call("PTTL", key)}
end
return found
