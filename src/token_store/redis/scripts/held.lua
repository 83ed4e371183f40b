-- ARGV: fence
local l, o, d, u = read('l', 'o', 'd', 'u')
if o and o ~= '' and number(l) == number(ARGV[1]) and rest_of(d, u) then
    return { 'held' }
end
return { 'ended' }
