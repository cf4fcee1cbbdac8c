-- KEYS value lease writers clock old holders run; ARGV channel, key.
if not intact(KEYS[7]) then
  return redis.error_reply(LOST)
end
local now = tick(KEYS[4])
contend(KEYS[3])
redis.call('DEL', KEYS[1], KEYS[2], KEYS[5])
tell(ARGV[1], 'k', now, ARGV[2])
return change(now, 0, KEYS[6])
