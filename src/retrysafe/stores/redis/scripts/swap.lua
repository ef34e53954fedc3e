-- needs: clock front checkpoint index
-- Puts a checkpoint in the place of the one that was read, if it is still that one. KEYS[5]: audit, with a line for it.
-- ARGV: now, id, revision that was read, the checkpoint, the line.
local r = front()
if not r or r.id ~= ARGV[2] or r.revision ~= tonumber(ARGV[3]) then
    return {0}
end
redis.call('SET', KEYS[1], ARGV[4])
enlist(front_of(ARGV[4]), r.group)
if KEYS[5] then
    redis.call('RPUSH', KEYS[5], struct.pack('>I8', micros) .. ARGV[5])
end
return {1}
