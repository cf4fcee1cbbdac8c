-- KEYS lease; ARGV token, lease in ms.
local held = redis.call('GET', KEYS[1])
if held and string.sub(held, 1, 24) == ARGV[1] then
  return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
