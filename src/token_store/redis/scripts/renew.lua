-- ARGV: owner, length, remembered
if not holds(ARGV[1]) then
    return { 'lost' }
end
local length = number(ARGV[2])
redis.call('HSET', key, 'd', ARGV[2], 'u', text(now + length))
remember(length + number(ARGV[3]))
return { 'renewed' }
