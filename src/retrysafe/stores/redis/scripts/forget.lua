-- needs: clock front checkpoint index
-- Forgets a checkpoint whose tombstone is over, if it is still the one that was read (C6). KEYS[5]: memos.
-- ARGV: now, id, revision.
local r = front()
if r and r.id == ARGV[2] and r.revision == tonumber(ARGV[3]) then
    redis.call('ZREM', KEYS[r.group], member(r))
    redis.call('DEL', KEYS[1], KEYS[5])
end
return {}
