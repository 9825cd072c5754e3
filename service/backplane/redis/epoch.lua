-- Which epoch the history is of: as long as it has the same name, nothing of it was lost as a whole.
--
-- KEYS  1 the epoch
-- ARGV  1 the run of this Redis
--       2 whether it has all that it accepted before (1 or 0): it writes that down before it answers, and is no replica
--         that was promoted
--       3 a name for a new epoch   4 the name of one that is over, or empty
--       5 where this Redis is, if others may take its place, or empty
-- A Redis that has been restarted without such a log has lost what it accepted, or some of it: a new epoch. So may
-- have one that was a replica, which after a restart of its own is known by nothing but its place.
-- Returns the epoch's name.
local known = redis.call("HMGET", KEYS[1], "name", "run", "at")
local name = known[1]
local restarted = known[2] ~= ARGV[1]
local another = ARGV[5] ~= "" and known[3] ~= ARGV[5]
if not name or name == ARGV[4] or (restarted and (another or ARGV[2] ~= "1")) then
  name = ARGV[3]
end
if name ~= known[1] or restarted then
  redis.call("HSET", KEYS[1], "name", name, "run", ARGV[1], "at", ARGV[5])
end
return name
