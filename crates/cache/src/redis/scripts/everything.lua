-- KEYS epoch clock; ARGV channel.
local now = tick(KEYS[2])
redis.call('SET', KEYS[1], string.format('%.0f', now))
redis.call('PUBLISH', ARGV[1], 'e' .. packed(now))
return now
