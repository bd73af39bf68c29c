-- Reads entries of one stream of an agent, limited in number and bytes, and fields of its live hash, at one moment.
-- KEYS: live, stream. ARGV: XRANGE or XREVRANGE, its first and last id, the maximum number of entries, their maximum
-- size in bytes (but at least one entry), then the fields. Returns: the values of the fields, the entries, 1 if more
-- follow, the key whose type is wrong, or ''.
local BATCH = 32 -- entries that are read at once: they may be 256 KiB long
local command, start, stop, count, room = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local held = redis.pcall('HMGET', KEYS[1], unpack(ARGV, 6))
if held.err then return { {}, {}, 0, KEYS[1] } end
local found = {}
while #found < count do
  local wanted = math.min(count - #found, BATCH)
  local batch = redis.pcall(command, KEYS[2], start, stop, 'COUNT', wanted)
  if batch.err then return { held, {}, 0, KEYS[2] } end
  for _, entry in ipairs(batch) do
    local size = 0
    for _, part in ipairs(entry[2]) do size = size + #part end
    if #found > 0 and size > room then return { held, found, 1, '' } end
    found[#found + 1], room = entry, room - size
  end
  if #batch < wanted then return { held, found, 0, '' } end
  start = '(' .. found[#found][1]
end
return { held, found, 1, '' }
