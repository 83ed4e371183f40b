-- ARGV: owner, pause or 0, channel
if not holds(ARGV[1]) then
    return { 'lost' }
end
local pause = number(ARGV[2])
if pause > 0 then
    redis.call('HSET', key, 'o', '', 'd', ARGV[2], 'u', text(now + pause))
    remember(pause)
else
    redis.call('HDEL', key, 'l', 'o', 'd', 'u', 'g')
end
wake(ARGV[3])
return { 'released' }
