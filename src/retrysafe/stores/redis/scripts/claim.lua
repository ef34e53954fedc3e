-- needs: clock
-- Makes a checkpoint, or returns the one that is there (C1).
-- ARGV: now, the front up to the place, all behind the last instant, id, lease, tombstone.
local met = redis.call('GET', KEYS[1])
if met then
    return {stamp(), met}
end
local lease = now + ARGV[5]
local instants = struct.pack('>dddddddd', micros, now, lease, lease, 0, -1, -1, now + ARGV[6])
redis.call('SET', KEYS[1], ARGV[2] .. instants .. ARGV[3])
redis.call('ZADD', KEYS[2], lease, struct.pack('>I8', micros) .. string.sub(KEYS[1], -16) .. ARGV[4])
return {1}
