-- ARGV: owner, fence, entry, ttl, channel
local is_holder = holds(ARGV[1])
local fence, ttl = tonumber(ARGV[2]), tonumber(ARGV[4])
local f, x, n = get('f', 'x', 'n')
local result = 'stored'
if f and tonumber(x) > now then
    f = tonumber(f)
    if f > fence or (f == fence and redis.call('HEXISTS', key, 'e') == 0) then
        result = 'superseded'
    end
end
if result == 'stored' then
    -- The first write, because a full server refuses only that.
    redis.call('HSET', key, 'e', ARGV[3], 'f', text(fence), 'p', text(now), 'x', text(now + ttl),
        'n', text(math.max(tonumber(n) or 0, fence)))
    remember(ttl)
end
if is_holder then
    redis.call('HDEL', key, 'l', 'o', 'd', 'u')
end
wake(ARGV[5])
return { result }
