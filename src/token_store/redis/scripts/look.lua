-- ARGV: newer_than or '', owner, length, remembered
local known, owner, length = number(ARGV[1]), ARGV[2], number(ARGV[3])
local f, e, p, x = read('f', 'e', 'p', 'x')
-- A full or read-only server still gives entries: nothing has been written yet.
if e and number(x) > now and number(f) > known then
    local age = now - number(p)
    if age < -1000 then
        -- The clock was set back since, so nobody knows.
        age = number(x) - number(p)
    end
    return { 'entry', e, text(number(f)), text(math.max(age, 0)) }
end

local l, o, d, u, n = read('l', 'o', 'd', 'u', 'n')
local rest = o and rest_of(u)
if rest and rest > number(d) then
    -- The clock was set back. The holder may still be at work, so its time begins again.
    rest = number(d)
    redis.pcall('HSET', key, 'u', text(now + rest))
end
if rest and o == '' then
    return { 'paused', text(rest) }
elseif rest and o ~= owner then
    return { 'held', text(number(l)), text(rest) }
end
local fence = number(l)
if not rest then
    fence = math.max(micros, number(n) + 1, known + 1)
end
fence = text(fence)
redis.call('HSET', key, 'l', fence, 'o', owner, 'd', ARGV[3], 'u', text(now + length), 'n', fence)
remember(length + number(ARGV[4]))
local lost = o and o ~= '' and not rest
return { 'leased', fence, lost and '1' or '0' }
