-- Take or renew the lease of the outbox: the node that holds it delivers the events, and no other does.
--
-- KEYS  1 the lease   2 the outbox
-- ARGV  1 the node   2 milliseconds that the lease is to last
-- Returns how many events wait in the outbox, or -1 if another node holds the lease.
local owner = redis.call("GET", KEYS[1])
if owner and owner ~= ARGV[1] then return -1 end
redis.call("SET", KEYS[1], ARGV[1], "PX", ARGV[2])
return redis.call("XLEN", KEYS[2])
