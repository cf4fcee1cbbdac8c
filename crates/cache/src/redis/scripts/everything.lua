-- KEYS epoch clock holders run; ARGV channel.
if not intact(KEYS[4]) then
  return redis.error_reply(LOST)
end
insist_on_holders(KEYS[3])
local now = tick(KEYS[2])
redis.call('SET', KEYS[1], string.format('%.0f', now))
tell(ARGV[1], 'e', now, '')
return change(now, 0, KEYS[3])
