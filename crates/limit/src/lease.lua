-- Grants a lease of tokens from a bucket, by one atomic step on the store's own clock.
-- The reference is `lease::store::Bucket`, which says why. All numbers are whole and below 2^53.
local token, refill = tonumber(ARGV[1]), tonumber(ARGV[2])
local capacity, drain, forgotten_millis = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local want, least, instance = tonumber(ARGV[6]), tonumber(ARGV[7]), 'h' .. ARGV[8]
local returned, returned_stamp = tonumber(ARGV[9]), tonumber(ARGV[10])
local hungry_micros, clock_back_micros = 200000, 1000000

local now
if ARGV[11] then
  now = tonumber(ARGV[11])
else
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local debt, at, hungry, others = 0, 0, 0, 0
local fields = redis.call('HGETALL', KEYS[1])
local since = {}
for i = 1, #fields, 2 do
  local name, value = fields[i], tonumber(fields[i + 1])
  if name == 'd' then
    debt = value
  elseif name == 'a' then
    at = value
  else
    since[name] = value
  end
end
if now < at then
  if at - now > clock_back_micros then
    at = now
  else
    now = at
  end
end

local function drained(units, micros)
  if micros >= drain then
    return 0
  end
  return math.max(0, units - micros * refill)
end

debt = drained(debt, now - at)
if returned > 0 then
  local units = math.min(returned, math.floor(capacity / token)) * token
  debt = math.max(0, debt - drained(units, math.max(0, now - returned_stamp)))
end

for name, value in pairs(since) do
  if value > now or now - value >= hungry_micros then
    redis.call('HDEL', KEYS[1], name)
    since[name] = nil
  else
    hungry = hungry + 1
    if name ~= instance then
      others = others + 1
    end
  end
end

local available = math.floor(math.max(0, capacity - debt) / token)
local tokens = 0
if available >= least then
  tokens = math.min(want, math.max(least, math.ceil(available / (others + 1))))
end
debt = debt + tokens * token
if tokens < want then
  if not since[instance] then
    hungry = hungry + 1
  end
  redis.call('HSET', KEYS[1], instance, string.format('%.0f', now))
elseif want > 0 and since[instance] then
  hungry = hungry - 1
  redis.call('HDEL', KEYS[1], instance)
end

redis.call('HSET', KEYS[1], 'd', string.format('%.0f', debt), 'a', string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[1], forgotten_millis)
local awaited = math.min(math.max(1, least), math.floor(capacity / token)) * token
local wait = math.ceil(math.max(0, debt + awaited - capacity) / refill)
return { tokens, now, math.max(1, hungry), wait }
