-- KEYS value lease writers clock; ARGV channel, key.
local now = tick(KEYS[4])
contend(KEYS[3])
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('PUBLISH', ARGV[1], 'k' .. packed(now) .. ARGV[2])
return now
