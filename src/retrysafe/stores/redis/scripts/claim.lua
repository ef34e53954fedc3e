-- Makes a checkpoint, or returns the one that is there (C1). KEYS[5]: memos.
-- ARGV: now, the front up to the place, all behind the last instant, id, lease, tombstone; id and revision of a
-- checkpoint whose tombstone is over, which this one replaces (C6).
local met = redis.call('GET', KEYS[1])
if met then
    local old = ARGV[7] and front_of(met)
    if not old or old.id ~= ARGV[7] or old.revision ~= tonumber(ARGV[8]) then
        return {stamp, met}
    end
    redis.call('ZREM', KEYS[old.group], member(old))
    redis.call('DEL', KEYS[5])
end
local lease = now + tonumber(ARGV[5])
local instants = struct.pack('>dddddddd', micros, now, lease, lease, 0, -1, -1, now + tonumber(ARGV[6]))
redis.call('SET', KEYS[1], ARGV[2] .. instants .. ARGV[3])
redis.call('ZADD', KEYS[2], lease, struct.pack('>I8', micros) .. string.sub(KEYS[1], -16) .. ARGV[4])
return {stamp}
