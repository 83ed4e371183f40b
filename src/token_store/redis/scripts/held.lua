-- ARGV: fence
local l, o, u = read('l', 'o', 'u')
if o and o ~= '' and number(l) == number(ARGV[1]) and rest_of(u) then
    return { 'held' }
end
return { 'ended' }
