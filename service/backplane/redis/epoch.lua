-- Which epoch the history is of: as long as it has the same name, nothing of it was lost as a whole.
--
-- KEYS  1 the epoch
-- ARGV  1 the run of this Redis   2 whether it writes down what it accepts before it answers (1 or 0)
--       3 a name for a new epoch   4 the name of one that is over, or empty
-- A Redis that has been restarted without such a log has lost what it accepted, or some of it: a new epoch.
-- Returns the epoch's name.
local known = redis.call("HMGET", KEYS[1], "name", "run")
local name = known[1]
if not name or name == ARGV[4] or (known[2] ~= ARGV[1] and ARGV[2] ~= "1") then
  name = ARGV[3]
end
if name ~= known[1] or known[2] ~= ARGV[1] then
  redis.call("HSET", KEYS[1], "name", name, "run", ARGV[1])
end
return name
