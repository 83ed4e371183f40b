-- ARGV: newer_than or '', owner, length, remembered
local known, owner, length = number(ARGV[1]), ARGV[2], number(ARGV[3])
local f, e, t, x, p = read('f', 'e', 't', 'x', 'p')
-- A full or read-only server still gives entries: nothing has been written yet.
if e and number(x) > now and number(f) > known then
    -- Both times were rounded down.
    local age = now - number(p) + 1
    if age < -1000 then
        -- The clock was set back since, so nobody knows.
        age = number(t)
    end
    return { 'entry', e, text(number(f)), text(math.max(age, 0)) }
end

local l, o, d, u, n, w = read('l', 'o', 'd', 'u', 'n', 'w')
local rest = o and rest_of(u)
if rest and rest > number(d) then
    -- The clock was set back. The holder may still be working, so its time begins again.
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
    redis.call('HSET', key, 'g', text(now))
    if o and o ~= '' then
        w = '1'
    end
end
fence, w = text(fence), w or '0'
redis.call('HSET', key, 'l', fence, 'o', owner, 'd', ARGV[3], 'u', text(now + length), 'n', fence, 'w', w)
remember(length + number(ARGV[4]))
return { 'leased', fence, w }
