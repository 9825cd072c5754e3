-- Read a stream's history after an offset: what there is, and what says whether it is all.
--
-- KEYS  1 the stream's meta   2 its history   3 the index of streams   4 the epoch
-- ARGV  1 the offset after which   2 how many bytes at most (one event of any size is always given)   3 the stream
-- Returns {last offset, greatest that was dropped, 1 if there is more, 1 if it has been thrown away,
-- offset, until, body, offset, until, body, …}; the first is empty where nothing is known of the stream, and the second
-- is then the greatest offset that went with any stream that was swept (empty: none was yet).
local meta = redis.call("HMGET", KEYS[1], "last", "dropped", "lapsed", "till")
local answer = {meta[1] or "", meta[2] or "", 0, 0}
if not meta[1] then
  -- Absence is no proof: a stream of which there must be something is in the index.
  if redis.call("ZSCORE", KEYS[3], ARGV[3]) then
    answer[4] = 1
  else
    answer[2] = redis.call("HGET", KEYS[4], "swept") or ""
  end
  return answer
end
if redis.call("EXISTS", KEYS[2]) == 0 then
  answer[4] = 1
  return answer
end

-- Redis's clock was ahead, and events went that have not lapsed yet: they are lost.
local now = redis.call("TIME")
if meta[4] and tonumber(meta[4]) > now[1] * 1000000 + now[2] and tonumber(meta[3]) > tonumber(meta[2] or "0") then
  answer[2] = meta[3]
end

local from = "(" .. ARGV[1] .. "-0"
local left = tonumber(ARGV[2])
while true do
  local entries = redis.call("XRANGE", KEYS[2], from, "+", "COUNT", 50)
  for _, entry in ipairs(entries) do
    if left <= 0 then
      answer[3] = 1
      return answer
    end
    local body = entry[2][2]
    answer[#answer + 1] = string.match(entry[1], "^%d+")
    answer[#answer + 1] = entry[2][4]
    answer[#answer + 1] = body
    left = left - #body
    from = "(" .. entry[1]
  end
  if #entries < 50 then return answer end
end
