-- KEYS clock epoch holders run; ARGV the largest number that the instance knows, lease in ms, time in ms for which writes from before a
-- restart may be under way, id of the connection before this one, most holders, channel. Gives the clock, the epoch and the time in ms.
insist_on_holders(KEYS[3])
local now = tick(KEYS[1])
local known = tonumber(ARGV[1])
if known < 2 ^ 53 and now <= known then
  now = known + 1
  redis.call('SET', KEYS[1], string.format('%.0f', now))
end
local epoch = redis.call('GET', KEYS[2])
if leased then
  -- A Redis that was started again may have come back with what it had some time ago, and has forgotten who holds what.
  local info = redis.call('INFO', 'server')
  local run, up = string.match(info, 'run_id:(%x+)'), string.match(info, 'uptime_in_seconds:(%d+)')
  local last = redis.call('GET', KEYS[4])
  if last ~= run then
    local time = redis.call('TIME')
    now, epoch = math.max(now, time[1] * 1000000 + time[2]), false
    redis.call('SET', KEYS[1], string.format('%.0f', now))
    redis.call('SET', KEYS[4], run)
    -- Whoever knows a number was here before, so that all has been lost but Redis itself was not started.
    if last or known > 0 or tonumber(up) * 1000 < tonumber(ARGV[3]) + 1000 then
      redis.call('ZADD', KEYS[3], string.format('%.0f', millis() + tonumber(ARGV[3])), '!')
    end
    redis.call('PUBLISH', ARGV[6], 'e' .. packed(now))
  end
  redis.call('ZREM', KEYS[3], ARGV[4])
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', string.format('%.0f', millis()))
  if redis.call('ZCARD', KEYS[3]) >= tonumber(ARGV[5]) then
    return redis.error_reply('FULL ' .. ARGV[5] .. ' instances hold leases')
  end
  redis.call('ZADD', KEYS[3], string.format('%.0f', millis() + tonumber(ARGV[2])), me)
end
if not epoch then
  epoch = now
  redis.call('SET', KEYS[2], string.format('%.0f', now))
end
return {now, tonumber(epoch), millis()}
