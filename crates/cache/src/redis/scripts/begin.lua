-- KEYS value lease writers clock; ARGV token, lease in ms, channel, key. Gives the write's version. A write begins: what is loaded from here on to its end is not kept,
-- and should the writer die, the old value dies with its lease.
contend(KEYS[3])
local lease = tonumber(ARGV[2])
redis.call('HSET', KEYS[3], ARGV[1], string.format('%.0f', millis() + lease))
redis.call('PEXPIRE', KEYS[3], lease)
if redis.call('PTTL', KEYS[1]) > lease then
  redis.call('PEXPIRE', KEYS[1], lease)
end
revoke(KEYS[2], ARGV[3], ARGV[4])
return tick(KEYS[4])
