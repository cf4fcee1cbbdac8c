-- KEYS holders; ARGV channel, id. A holder has emptied its memory for good, so that nobody needs to wait for it.
redis.call('ZREM', KEYS[1], ARGV[2])
redis.call('PUBLISH', ARGV[1], 'g' .. ARGV[2])
return 1
