-- KEYS value lease writers clock old holders run tagged tag...; ARGV value without version, its life in ms, channel, key, what is
-- expected there: anything if empty, nothing if '-', or '=' and the first 8 bytes of it, the time of this Redis at which it was given up.
-- Gives the new version, or 0, and whether the value was kept. A put that comes after it was given up has no effect: what its instance
-- has said since, or others have put, is later. Where memory is held by leases nothing is kept while a write is under way, nor has a put
-- any effect whose instance does not count any more.
if not intact(KEYS[7]) then
  return redis.error_reply(LOST)
end
if leased then
  local till = redis.call('ZSCORE', KEYS[6], me)
  if not till or tonumber(till) <= millis() then
    return redis.error_reply('LATE the lease has ended')
  end
end
if millis() >= tonumber(ARGV[6]) then
  return redis.error_reply('PAST it was given up')
end
local busy = leased and (writers(KEYS[3]) > 0 or restarted(KEYS[6]))
if ARGV[5] ~= '' then
  local value = redis.call('GET', KEYS[1])
  local found = value and '=' .. string.sub(value, 1, 8) or '-'
  if busy or found ~= ARGV[5] then
    return {0, 0}
  end
end
local now = tick(KEYS[4])
contend(KEYS[3])
redis.call('DEL', KEYS[2], KEYS[5])
if busy then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], packed(now) .. ARGV[1], 'PX', ARGV[2])
  bear(KEYS[8], 9, now, tonumber(ARGV[2]))
end
tell(ARGV[3], 'k', now, ARGV[4])
return change(now, busy and 0 or 1, KEYS[6])
