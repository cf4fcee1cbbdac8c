-- KEYS holders run; ARGV lease in ms. Whether the lease is extended: not if Redis has forgotten the instance, which then has missed things.
if not intact(KEYS[2]) then
  return 0
end
insist_on_holders(KEYS[1])
redis.call('ZADD', KEYS[1], string.format('%.0f', millis() + tonumber(ARGV[1])), me)
return 1
