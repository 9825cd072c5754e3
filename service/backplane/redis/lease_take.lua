-- Take a lease that nobody holds, or that this node has taken already.
--
-- KEYS  1 the lease   2 the index of nodes   3 a key that never exists
-- ARGV  1 what the lease begins with if it is this node's   2 what it is to say   3 milliseconds that it is to last
--       4 the node's entry in the index
-- Returns 1: taken; 0: it is another's.
-- A Redis that is full refuses to write, but lets a script go on that has written something, if only to no effect.
local held = redis.call("GET", KEYS[1])
if held and string.sub(held, 1, #ARGV[1]) ~= ARGV[1] then return 0 end
redis.call("DEL", KEYS[3])
redis.call("SET", KEYS[1], ARGV[2], "PX", ARGV[3])
-- After the lease: whoever is in the index without a lease is dead.
redis.call("SADD", KEYS[2], ARGV[4])
return 1
