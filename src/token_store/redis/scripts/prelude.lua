-- One hash for each name. The rules are those of `slot.rs`.
--   f, e, p, x: fence of the entry, the entry, when it was put, when it ends. After a removal, there is no `e`.
--   l, o, d, u: fence of the lease, its owner (empty in a pause), its length, when it ends.
--   n: the greatest fence so far.
-- Times are milliseconds since 1970. Fences are microseconds since 1970, or greater.
local key = KEYS[1]
local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2]
local now = math.floor(micros / 1000)

local function get(...)
    local values = redis.call('HMGET', key, ...)
    return unpack(values)
end

-- `tostring` rounds large numbers.
local function text(number)
    return string.format('%.0f', number)
end

-- How long a lease lasts, or nil. One that lasts longer than it was granted for has ended: the clock was set back.
local function rest_of(length, ends)
    local rest = (tonumber(ends) or 0) - now
    if rest > 0 and rest <= (tonumber(length) or 0) then
        return rest
    end
end

-- Keeps the hash for at least this long.
local function remember(millis)
    if redis.call('PTTL', key) < millis then
        redis.call('PEXPIRE', key, text(millis))
    end
end

local function holds(owner)
    local holder, length, ends = get('o', 'd', 'u')
    return holder == owner and rest_of(length, ends) ~= nil
end

-- Without permission for the channel, waiters poll.
local function wake(channel)
    redis.pcall('PUBLISH', channel, '')
end
