-- KEYS value lease writers clock tag...; ARGV token, value without version or nothing, its life in ms, channel, key, version.
-- Gives {version, whether the value was kept}. The version is that of the write's beginning, so that a tag which was invalidated
-- since is later.
local alive = writers(KEYS[3])
local mine = redis.call('HEXISTS', KEYS[3], ARGV[1]) == 1
local alone = mine and alive == 1 and redis.call('HEXISTS', KEYS[3], '!') == 0
if mine then
  redis.call('HDEL', KEYS[3], ARGV[1])
  if alive == 1 then
    redis.call('DEL', KEYS[3])
  end
end
local now, kept = tonumber(ARGV[6]), 0
if alone and ARGV[2] ~= '' then
  redis.call('SET', KEYS[1], packed(now) .. ARGV[2], 'PX', ARGV[3])
  bear(5, now, tonumber(ARGV[3]))
  kept = 1
else
  now = tick(KEYS[4])
  redis.call('DEL', KEYS[1])
end
redis.call('DEL', KEYS[2])
redis.call('PUBLISH', ARGV[4], 'k' .. packed(now) .. ARGV[5])
return {now, kept}
