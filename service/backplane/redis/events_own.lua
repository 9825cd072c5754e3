-- Take or renew the lease of the outbox: the node that holds it delivers the events, and no other does.
--
-- KEYS  1 the lease   2 the outbox   3 who is connected, where "b" says that there is an outbox (see events_append)
-- ARGV  1 the node   2 milliseconds that the lease is to last
-- Returns how many events wait in the outbox, -1 if another node holds the lease, or -2 if Redis has thrown the outbox
-- away with all that waited in it.
local owner = redis.call("GET", KEYS[1])
if owner and owner ~= ARGV[1] then return -1 end
redis.call("SET", KEYS[1], ARGV[1], "PX", ARGV[2])
if redis.call("EXISTS", KEYS[2]) == 0 and redis.call("HDEL", KEYS[3], "b") == 1 then return -2 end
return redis.call("XLEN", KEYS[2])
