-- Take on the reporting of a dead node's clients, unless it lives or another node has taken that on.
--
-- KEYS  1 the dead node's lease   2 who reports its clients   3 a key that never exists
-- ARGV  1 what the lease begins with if it is still that node's   2 who asks   3 seconds that it may take
-- Returns 1 if whoever asks is to do it, else 0. (A full Redis lets a script go on that has written something.)
local held = redis.call("GET", KEYS[1])
if held and string.sub(held, 1, #ARGV[1]) == ARGV[1] then return 0 end
redis.call("DEL", KEYS[3])
return redis.call("SET", KEYS[2], ARGV[2], "NX", "EX", ARGV[3]) and 1 or 0
