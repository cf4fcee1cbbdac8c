-- KEYS tag clock tagged holders run; ARGV channel, tag, least life of a tag in ms. One that is not there is written too: a load may be under way.
if not intact(KEYS[5]) then
  return redis.error_reply(LOST)
end
insist_on_holders(KEYS[4])
local now, life = tick(KEYS[2]), math.max(redis.call('PTTL', KEYS[1]), tonumber(ARGV[3]))
redis.call('SET', KEYS[1], string.format('%.0f', now), 'PX', string.format('%.0f', life))
redis.call('SET', KEYS[3], string.format('%.0f', now))
tell(ARGV[1], 't', now, ARGV[2])
return change(now, 0, KEYS[4])
