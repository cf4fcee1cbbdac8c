-- Many keys: nearly all requests go to some that fit into the cache, by Zipf's law, and a few to others that do not, so that something
-- is always evicted. A quarter of the keys has an answer for each of two encodings. Arguments: seed, bytes of an answer, keys that
-- fit, others.
dofile("bench/gateway/report.lua")

-- Of a hundred requests, how many go to keys which do not fit.
local OTHERS = 1
-- Places of the table by which Zipf's law is looked up; the least asked of 4,000 keys still has one.
local PLACES = 65536

local requests, places, fit, others = {}, {}, 0, 0

init = function(args)
    local bytes
    math.randomseed(tonumber(args[1]))
    bytes, fit, others = tonumber(args[2]), tonumber(args[3]), tonumber(args[4])
    for key = 1, fit + others do
        local path = string.format("/%d/0/3600/%s/%d", bytes, key % 4 == 0 and "vary" or "plain", key)
        requests[2 * key - 1] = wrk.format("GET", path, { ["Accept-Encoding"] = "gzip" })
        requests[2 * key] = wrk.format("GET", path, {})
    end
    local sum, at, reached = 0, 1, 0
    for key = 1, fit do sum = sum + 1 / key end
    for place = 1, PLACES do
        while at < fit and reached + 1 / at < sum * (place - 0.5) / PLACES do
            reached, at = reached + 1 / at, at + 1
        end
        places[place] = at
    end
end

request = function()
    local key
    if math.random(100) <= OTHERS then
        key = fit + math.random(others)
    else
        key = places[math.random(PLACES)]
    end
    -- Three clients of four understand gzip.
    return requests[2 * key - (math.random(4) == 1 and 0 or 1)]
end
