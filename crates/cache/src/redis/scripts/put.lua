-- KEYS value lease writers clock tag...; ARGV value without version, its life in ms, channel, key, version expected: any if empty,
-- none if '-'. Gives the new version, or 0.
if ARGV[5] ~= '' then
  local value = redis.call('GET', KEYS[1])
  local found = value and string.sub(value, 1, 8) or '-'
  if found ~= ARGV[5] then
    return 0
  end
end
local now = tick(KEYS[4])
contend(KEYS[3])
redis.call('SET', KEYS[1], packed(now) .. ARGV[1], 'PX', ARGV[2])
bear(5, now, tonumber(ARGV[2]))
redis.call('DEL', KEYS[2])
redis.call('PUBLISH', ARGV[3], 'k' .. packed(now) .. ARGV[4])
return now
