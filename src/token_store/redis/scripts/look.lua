-- ARGV: newer_than or '', owner, length, remembered
local owner, length = ARGV[2], tonumber(ARGV[3])
local known = tonumber(ARGV[1]) or 0
local f, e, p, x = get('f', 'e', 'p', 'x')
-- A full or read-only server still gives entries: nothing has been written yet.
if e and tonumber(x) > now and tonumber(f) > known then
    return { 'entry', e, text(tonumber(f)), text(math.max(now - tonumber(p), 0)) }
end

local l, o, d, u, n = get('l', 'o', 'd', 'u', 'n')
local rest = o and rest_of(d, u)
if rest and o == '' then
    return { 'paused', text(rest) }
elseif rest and o ~= owner then
    return { 'held', text(tonumber(l)), text(rest) }
end
local fence = tonumber(l)
if not rest then
    fence = math.max(micros, (tonumber(n) or 0) + 1, known + 1)
end
fence = text(fence)
redis.call('HSET', key, 'l', fence, 'o', owner, 'd', ARGV[3], 'u', text(now + length), 'n', fence)
remember(length + tonumber(ARGV[4]))
local lost = o and o ~= '' and not rest
return { 'leased', fence, lost and '1' or '0' }
