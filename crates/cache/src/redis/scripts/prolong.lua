-- KEYS writers holders; ARGV token, lease in ms.
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then
  return 0
end
insist_on_writers(KEYS[1])
if restarted(KEYS[2]) then
  redis.call('HSET', KEYS[1], '!', '1')
end
local lease = tonumber(ARGV[2])
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', millis() + lease))
return redis.call('PEXPIRE', KEYS[1], lease)
