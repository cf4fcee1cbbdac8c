-- The next number of the cache's clock. Where Redis has lost it, time in microseconds goes beyond all that were given out before.
local function tick(clock)
  local now = redis.call('INCR', clock)
  if now < 1e14 then
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

-- Tags live at least as long as what has them.
local function bear(first, version, px)
  for i = first, #KEYS do
    redis.call('SET', KEYS[i], string.format('%.0f', version), 'NX')
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
