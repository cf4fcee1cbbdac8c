-- KEYS value lease writers clock old holders; ARGV token, lease in ms, version that will not do, ms of a value's life in which it is stale.
-- Gives {0, value}, {1, ms of another's lease, its token}, {2, clock, whether what is loaded may not be kept, old value}, or {3, value
-- from before the write that is under way}.
local value = redis.call('GET', KEYS[1])
local fresh = value and redis.call('PTTL', KEYS[1]) > tonumber(ARGV[4])
if fresh and string.sub(value, 1, 8) ~= ARGV[3] then
  return {0, value}
end
local before = leased and redis.call('GET', KEYS[5])
if before and string.sub(before, 1, 8) ~= ARGV[3] then
  return {3, before}
end
local held = redis.call('GET', KEYS[2])
if held then
  if #held == 24 then
    redis.call('APPEND', KEYS[2], '+')
  end
  return {1, redis.call('PTTL', KEYS[2]), string.sub(held, 1, 24)}
end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
local written = (writers(KEYS[3]) > 0 or restarted(KEYS[6])) and 1 or 0
return {2, tick(KEYS[4]), written, value or ''}
