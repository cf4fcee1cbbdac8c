-- KEYS clock epoch; ARGV the largest number that the instance knows. Gives the clock and the epoch.
local now = tick(KEYS[1])
local known = tonumber(ARGV[1])
if now <= known then
  now = known + 1
  redis.call('SET', KEYS[1], string.format('%.0f', now))
end
local epoch = redis.call('GET', KEYS[2])
if not epoch then
  epoch = now
  redis.call('SET', KEYS[2], string.format('%.0f', now))
end
return {now, tonumber(epoch)}
