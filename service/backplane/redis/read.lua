-- Read a stream's history after an offset: what there is, and what says whether it is all.
--
-- KEYS  1 the stream's meta   2 its history
-- ARGV  1 the offset after which   2 how many bytes at most (one event of any size is always given)
-- Returns {last offset, greatest that was dropped, whether there is more, offset, until, body, offset, until, body, …};
-- the first two empty where nothing is known of the stream.
local meta = redis.call("HMGET", KEYS[1], "last", "dropped")
local answer = {meta[1] or "", meta[2] or "", 0}
if not meta[1] then return answer end

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
