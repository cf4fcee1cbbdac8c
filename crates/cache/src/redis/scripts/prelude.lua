-- Who asks, where memory is held by leases: the connection's own id. Otherwise nothing.
local me = ARGV[#ARGV]
local leased = me ~= ''

-- The next number of the cache's clock. Where Redis has lost it, time in microseconds goes beyond all that were given out before. It is
-- also there for a number that only a stranger can have put there, which cannot be counted on from exactly.
local function tick(clock)
  local now = redis.call('INCR', clock)
  if now < 1e14 or now >= 2 ^ 53 then
    local time = redis.call('TIME')
    now = time[1] * 1000000 + time[2]
    redis.call('SET', clock, string.format('%.0f', now))
  end
  return now
end

local function packed(number)
  return struct.pack('>I8', number)
end

local function millis()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- A Redis that is full refuses what needs room, but to a script that has written something already. So what has to be done in any case
-- begins with something that needs none: there is no such holder, and no such writer.
local function insist_on_holders(holders)
  redis.call('ZREM', holders, '')
end

local function insist_on_writers(writers)
  redis.call('HDEL', writers, '')
end

-- How many write a key. Those that have died are taken out when their time is over.
local function writers(key)
  local all, now, alive = redis.call('HGETALL', key), millis(), 0
  for i = 1, #all, 2 do
    if all[i] ~= '!' then
      if tonumber(all[i + 1]) < now then
        redis.call('HDEL', key, all[i])
      else
        alive = alive + 1
      end
    end
  end
  if alive == 0 and #all > 0 then
    redis.call('DEL', key)
  end
  return alive
end

-- None of those that write has the last word.
local function contend(key)
  if writers(key) > 0 then
    redis.call('HSET', key, '!', '1')
  end
end

-- Tags live at least as long as what has them. One that is not there is new, or was evicted: then it may have been invalidated since
-- this version, but no later than the last invalidation of any tag.
local function bear(tagged, first, version, px)
  for i = first, #KEYS do
    if redis.call('EXISTS', KEYS[i]) == 0 then
      local floor = tonumber(redis.call('GET', tagged) or '0')
      redis.call('SET', KEYS[i], string.format('%.0f', math.max(version, floor)))
    end
    if redis.call('PTTL', KEYS[i]) < px then
      redis.call('PEXPIRE', KEYS[i], px)
    end
  end
end

-- Ends a load that is under way, and wakes who waits for it.
local function revoke(lease, channel, key)
  local held = redis.call('GET', lease)
  if held then
    redis.call('DEL', lease)
    if #held > 24 then
      redis.call('PUBLISH', channel, 'f' .. key)
    end
  end
end

-- Whether Redis has been started, or has lost everything, so short a time ago that writes from before may be under way unknown.
local function restarted(holders)
  local till = leased and redis.call('ZSCORE', holders, '!')
  return till and tonumber(till) > millis()
end

-- Whether all that was said here since the connection began is still there.
local function intact(run)
  return not leased or redis.call('EXISTS', run) == 1
end

-- The answer to a change: its version, whether its value was kept, and who else may serve from memory, each with the time in ms.
local function change(version, kept, holders)
  local answer = {version, kept}
  if leased then
    local now = millis()
    redis.call('ZREMRANGEBYSCORE', holders, '-inf', string.format('%.0f', now))
    local found = redis.call('ZRANGE', holders, 0, -1, 'WITHSCORES')
    for i = 1, #found, 2 do
      if found[i] ~= me then
        answer[#answer + 1] = found[i]
        answer[#answer + 1] = tonumber(found[i + 1]) - now
      end
    end
  end
  return answer
end

-- Tells all that something has changed. Where memory is held by leases, they tell whoever changed it that they have heard.
local function tell(channel, kind, version, what)
  if leased then
    redis.call('PUBLISH', channel, string.upper(kind) .. packed(version) .. me .. what)
  else
    redis.call('PUBLISH', channel, kind .. packed(version) .. what)
  end
end

local LOST = 'LOST what was known of instances is gone'
