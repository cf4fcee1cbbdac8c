-- KEYS value lease writers clock; ARGV token, lease in ms, version that will not do, ms of a value's life in which it is stale.
-- Gives {0, value}, {1, ms of another's lease}, or {2, clock, whether a write is under way, old value}.
local value = redis.call('GET', KEYS[1])
local fresh = value and redis.call('PTTL', KEYS[1]) > tonumber(ARGV[4])
if fresh and string.sub(value, 1, 8) ~= ARGV[3] then
  return {0, value}
end
local held = redis.call('GET', KEYS[2])
if held then
  if #held == 24 then
    redis.call('APPEND', KEYS[2], '+')
  end
  return {1, redis.call('PTTL', KEYS[2])}
end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
local written = writers(KEYS[3]) > 0 and 1 or 0
return {2, tick(KEYS[4]), written, value or ''}
