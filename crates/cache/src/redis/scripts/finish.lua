-- KEYS value lease writers clock old holders run tagged tag...; ARGV token, value without version or nothing, its life in ms, channel,
-- key, version, lease in ms. Gives the version, and whether the value was kept. The version is that of the write's beginning, so that a
-- tag which was invalidated since is later. Where memory is held by leases nobody has anything of the key if this write was alone;
-- otherwise somebody may, and has to be waited for. What has no value failed, or was dropped, and may take effect later: its token stays for as long
-- as that of a writer that died, so that nothing of the key is kept meanwhile.
if not intact(KEYS[7]) then
  return redis.error_reply(LOST)
end
insist_on_writers(KEYS[3])
local alive = writers(KEYS[3])
local mine = redis.call('HEXISTS', KEYS[3], ARGV[1]) == 1
local alone = mine and alive == 1 and redis.call('HEXISTS', KEYS[3], '!') == 0 and not restarted(KEYS[6])
if not mine then
  -- It counted as dead, and others that began since do not know of it.
  contend(KEYS[3])
end
if ARGV[2] == '' then
  local lease = tonumber(ARGV[7])
  redis.call('HSET', KEYS[3], ARGV[1], string.format('%.0f', millis() + lease), '!', '1')
  redis.call('PEXPIRE', KEYS[3], math.max(lease, redis.call('PTTL', KEYS[3])))
elseif mine then
  redis.call('HDEL', KEYS[3], ARGV[1])
  if alive == 1 then
    redis.call('DEL', KEYS[3])
  end
end
redis.call('DEL', KEYS[2])
if leased then
  redis.call('DEL', KEYS[5])
end
if alone and ARGV[2] ~= '' then
  local now = tonumber(ARGV[6])
  redis.call('SET', KEYS[1], packed(now) .. ARGV[2], 'PX', ARGV[3])
  bear(KEYS[8], 9, now, tonumber(ARGV[3]))
  redis.call('PUBLISH', ARGV[4], 'k' .. packed(now) .. ARGV[5])
  return {now, 1}
end
local now = tick(KEYS[4])
redis.call('DEL', KEYS[1])
tell(ARGV[4], 'k', now, ARGV[5])
return change(now, 0, KEYS[6])
