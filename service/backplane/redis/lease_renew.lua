-- Renew a node's lease, with what the node says of itself now.
--
-- KEYS  1 the lease   2 the index of nodes   3 the node's registry of clients
-- ARGV  1 what the lease begins with if it is this node's   2 what it is to say   3 milliseconds that it is to last
--       4 the node's entry in the index   5 seconds that the registry is kept
-- Returns 1: renewed; 0: the lease is another's; 2: there is none.
-- A Redis that is full refuses SET and SADD, but never PEXPIRE: the lease lasts, whatever it says. What a script has
-- begun to write it may go on with, so with luck it says the new thing as well.
local held = redis.call("GET", KEYS[1])
if not held then return 2 end
if string.sub(held, 1, #ARGV[1]) ~= ARGV[1] then return 0 end
redis.call("PEXPIRE", KEYS[1], ARGV[3])
redis.call("EXPIRE", KEYS[3], ARGV[5])
if held ~= ARGV[2] then redis.pcall("SET", KEYS[1], ARGV[2], "PX", ARGV[3]) end
if redis.call("SISMEMBER", KEYS[2], ARGV[4]) == 0 then redis.pcall("SADD", KEYS[2], ARGV[4]) end
return 1
