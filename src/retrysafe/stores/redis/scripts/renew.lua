-- needs: clock front checkpoint index
-- Moves a lease's end: to `seconds` from now, or, handed over, to now if it is later (C3, C7).
-- ARGV: now, id, fence, seconds, whether it is handed over.
local r = front()
if not holds(r, ARGV[2], ARGV[3]) or r.group ~= 2 then
    return {0}
end
local lease = now + tonumber(ARGV[4])
if ARGV[5] == '1' and r.lease <= now then
    return {1}
end
r.due = r.due + (lease - r.lease)
r.lease = lease
-- Frees nothing, and may be done when the memory is full; what has written already may write the rest.
redis.call('ZREM', KEYS[2], '')
redis.call('SETRANGE', KEYS[1], 0, packed(r))
enlist(r, 2)
return {1}
