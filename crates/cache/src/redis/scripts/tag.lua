-- KEYS tag clock; ARGV channel, tag, least life of a tag in ms. One that is not there is written too: a load may be under way.
local now, life = tick(KEYS[2]), math.max(redis.call('PTTL', KEYS[1]), tonumber(ARGV[3]))
redis.call('SET', KEYS[1], string.format('%.0f', now), 'PX', string.format('%.0f', life))
redis.call('PUBLISH', ARGV[1], 't' .. packed(now) .. ARGV[2])
return now
