-- KEYS lease; ARGV token, channel, key.
local held = redis.call('GET', KEYS[1])
if held and string.sub(held, 1, 24) == ARGV[1] then
  revoke(KEYS[1], ARGV[2], ARGV[3])
  return 1
end
return 0
