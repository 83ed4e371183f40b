-- ARGV: fence
local l, o, d, u = get('l', 'o', 'd', 'u')
if l and o ~= '' and tonumber(l) == tonumber(ARGV[1]) and rest_of(d, u) then
    return { 'held' }
end
return { 'ended' }
