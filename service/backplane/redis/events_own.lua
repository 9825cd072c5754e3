-- Be the one that delivers events, if nobody else is, or go on being it.
--
-- KEYS  1 who delivers   2 the outbox
-- ARGV  1 who asks   2 milliseconds for which it is that
-- Returns how many events wait if it is, else -1.
local owner = redis.call("GET", KEYS[1])
if owner and owner ~= ARGV[1] then return -1 end
redis.call("SET", KEYS[1], ARGV[1], "PX", ARGV[2])
return redis.call("XLEN", KEYS[2])
