-- needs: clock front checkpoint index
-- Notes that somebody was told of a checkpoint, if it is still the one that was read, and returns it (R2).
-- ARGV: now, id, revision, until when it is left alone.
local r = front()
if not r or r.id ~= ARGV[2] or r.revision ~= tonumber(ARGV[3]) then
    return {stamp(), ''}
end
r.hint = tonumber(ARGV[4])
redis.call('SETRANGE', KEYS[1], 0, packed(r))
enlist(r, 2)
return {stamp(), redis.call('GET', KEYS[1])}
