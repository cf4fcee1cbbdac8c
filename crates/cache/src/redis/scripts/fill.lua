-- KEYS value lease tagged tag...; ARGV token, version in 8 bytes, rest of the value, its life in ms, channel, key. Without a rest there is
-- nothing, and what was there before goes.
local held = redis.call('GET', KEYS[2])
if not held or string.sub(held, 1, 24) ~= ARGV[1] then
  return 0
end
if ARGV[3] == '' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[2] .. ARGV[3], 'PX', ARGV[4])
  bear(KEYS[3], 4, struct.unpack('>I8', ARGV[2]), tonumber(ARGV[4]))
end
revoke(KEYS[2], ARGV[5], ARGV[6])
return 1
