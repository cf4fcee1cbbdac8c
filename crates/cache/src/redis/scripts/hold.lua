-- KEYS holders run; ARGV lease in ms. Extends the lease, and gives the time in ms; or 0 if Redis has forgotten the instance, which then
-- has missed things.
if not intact(KEYS[2]) then
  return 0
end
insist_on_holders(KEYS[1])
local now = millis()
redis.call('ZADD', KEYS[1], string.format('%.0f', now + tonumber(ARGV[1])), me)
return now
