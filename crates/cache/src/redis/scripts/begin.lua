-- KEYS value lease writers clock old holders run; ARGV token, lease in ms, channel, key, life of the old value in ms. A write begins:
-- what is loaded from here on to its end is not kept, and should the writer die, the old value dies with its lease. Where memory is
-- held by leases nobody keeps the old value from here on, either; until the end, whoever finds nothing else may have it.
if not intact(KEYS[7]) then
  return redis.error_reply(LOST)
end
insist_on_writers(KEYS[3])
contend(KEYS[3])
local lease = tonumber(ARGV[2])
redis.call('HSET', KEYS[3], ARGV[1], string.format('%.0f', millis() + lease))
redis.call('PEXPIRE', KEYS[3], lease)
if restarted(KEYS[6]) then
  redis.call('HSET', KEYS[3], '!', '1')
end
local old, life = KEYS[1], lease
if leased then
  old, life = KEYS[5], tonumber(ARGV[5])
  if redis.call('EXISTS', KEYS[1]) == 1 then
    redis.call('RENAME', KEYS[1], old)
  end
end
if redis.call('PTTL', old) > life then
  redis.call('PEXPIRE', old, life)
end
revoke(KEYS[2], ARGV[3], ARGV[4])
local now = tick(KEYS[4])
if leased then
  tell(ARGV[3], 'k', now, ARGV[4])
end
return change(now, 0, KEYS[6])
