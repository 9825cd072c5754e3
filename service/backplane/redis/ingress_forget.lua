-- Drop consumers of the ingress stream that have long not read, and have nothing in hand.
--
-- KEYS  1 the stream
-- ARGV  1 the group   2 milliseconds without reading   3 who asks: never dropped
for _, consumer in ipairs(redis.call("XINFO", "CONSUMERS", KEYS[1], ARGV[1])) do
  local is = {}
  for at = 1, #consumer, 2 do is[consumer[at]] = consumer[at + 1] end
  if is.pending == 0 and is.idle > tonumber(ARGV[2]) and is.name ~= ARGV[3] then
    redis.call("XGROUP", "DELCONSUMER", KEYS[1], ARGV[1], is.name)
  end
end
