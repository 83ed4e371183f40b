-- ARGV: fence
local f, x = read('f', 'x')
local is_named = f and number(f) == number(ARGV[1]) and number(x) > now
if is_named and redis.call('HDEL', key, 'e') == 1 then
    return { 'removed' }
end
return { 'absent' }
