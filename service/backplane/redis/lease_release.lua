-- Give up a lease, if it is this node's.
--
-- KEYS  1 the lease
-- ARGV  1 what it begins with if it is this node's
local held = redis.call("GET", KEYS[1])
if held and string.sub(held, 1, #ARGV[1]) == ARGV[1] then redis.call("DEL", KEYS[1]) end
