-- Take some entries out of a registry and give them back, in one step: two nodes that do so get different ones.
--
-- KEYS  1 the registry
-- ARGV  1 how many at most
-- Returns {session, names, session, names, …}.
local got = redis.call("HRANDFIELD", KEYS[1], ARGV[1], "WITHVALUES")
for i = 1, #got, 2 do redis.call("HDEL", KEYS[1], got[i]) end
return got
