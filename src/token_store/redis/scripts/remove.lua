-- ARGV: fence
local f, x = get('f', 'x')
if f and tonumber(f) == tonumber(ARGV[1]) and tonumber(x) > now and redis.call('HDEL', key, 'e') == 1 then
    return { 'removed' }
end
return { 'absent' }
