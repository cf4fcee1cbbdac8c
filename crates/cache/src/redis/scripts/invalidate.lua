-- KEYS value lease writers clock old holders run; ARGV channel, key.
if not intact(KEYS[7]) then
  return redis.error_reply(LOST)
end
-- First, as a Redis that is full would refuse what comes then.
redis.call('DEL', KEYS[1], KEYS[2], KEYS[5])
local now = tick(KEYS[4])
contend(KEYS[3])
tell(ARGV[1], 'k', now, ARGV[2])
return change(now, 0, KEYS[6])
