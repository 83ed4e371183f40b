-- One hash for each name. The rules are those of `slot.rs`.
--   f, e, t, x, p: fence of the entry, the entry, how long it was to be kept, when it ends, when its lease was granted. After a removal, there
--   is no `e`.
--   l, o, d, u, g: fence of the lease, its owner (empty in a pause), its length, when it ends, when it was granted.
--   n: the greatest fence so far.
--   w: whether a holder was lost since the last entry was stored.
-- Times are milliseconds since 1970. Fences are microseconds since 1970, or greater.
local key = KEYS[1]
local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2]
local now = math.floor(micros / 1000)

local function read(...)
    local fields = redis.pcall('HMGET', key, ...)
    if fields.err then
        if string.find(fields.err, 'WRONGTYPE', 1, true) then
            -- Something else has our key.
            redis.call('DEL', key)
            return
        end
        error(fields.err)
    end
    return unpack(fields)
end

-- Zero for what is not there, and for what nobody has put there: Lua also reads `inf`, `nan` and hexadecimal digits.
local function number(field)
    local value = tonumber(field)
    return value and value >= 0 and value < 2 ^ 53 and value or 0
end

-- `tostring` rounds large numbers.
local function text(value)
    return string.format('%.0f', value)
end

-- How long a lease lasts, or nil. If the clock was set back, that is longer than it was granted for.
local function rest_of(ends)
    local rest = number(ends) - now
    if rest > 0 then
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
    local holder, ends = read('o', 'u')
    return holder == owner and rest_of(ends) ~= nil
end

-- Without permission for the channel, waiters poll.
local function wake(channel)
    redis.pcall('PUBLISH', channel, '')
end

