-- Acknowledge entries of the ingress stream, and delete them.
--
-- KEYS  1 the stream
-- ARGV  1 the group   2 and on: the entries
redis.call("XACK", KEYS[1], ARGV[1], unpack(ARGV, 2))
redis.call("XDEL", KEYS[1], unpack(ARGV, 2))
