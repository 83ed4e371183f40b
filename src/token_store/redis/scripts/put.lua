-- ARGV: owner, fence, entry, ttl, channel
local fence, ttl = number(ARGV[2]), number(ARGV[4])
local is_holder = holds(ARGV[1])
local f, x, n, p, l, g = read('f', 'x', 'n', 'p', 'l', 'g')
local result = 'stored'
if f and number(x) > now then
    local was_removed = redis.call('HEXISTS', key, 'e') == 0
    if number(f) > fence or (number(f) == fence and was_removed) then
        result = 'superseded'
    end
end
if result == 'stored' then
    if number(l) == fence then
        p = g
    elseif number(f) ~= fence then
        -- The engine has forgotten the lease, but a fence is mostly the time at which its lease was granted.
        p = text(math.floor(fence / 1000))
    end
    -- The first write, because a full server refuses only that.
    redis.call('HSET', key, 'e', ARGV[3], 'f', text(fence), 't', ARGV[4], 'x', text(now + ttl),
        'p', p or '0', 'n', text(math.max(number(n), fence)), 'w', '0')
    remember(ttl)
end
if is_holder then
    redis.call('HDEL', key, 'l', 'o', 'd', 'u', 'g')
end
wake(ARGV[5])
return { result }
