-- KEYS[2], [3] and [4] are the open, parked and closed checkpoints of a bucket.
-- The first 8 bytes order the checkpoints of a store by when they were made.
local function member(r)
    return struct.pack('>I8', r.place) .. string.sub(KEYS[1], -16) .. r.id
end

-- Keeps the checkpoint in the index of its group, at the instant at which somebody must look at it.
local function enlist(r, group_before)
    local score = r.place
    local group = (r.state == PARKED and 3) or ((r.state < 3 or r.state == UNDOING) and 2) or 4
    if group == 2 then
        score = math.max(r.lease, r.due, r.hint)
    elseif group == 4 then
        score = r.tombstone
        if r.outcome_bytes >= 0 and r.outcome_until >= 0 then
            score = math.min(score, r.outcome_until)
        end
    end
    local name = member(r)
    if group_before and group_before ~= group then
        redis.call('ZREM', KEYS[group_before], name)
    end
    redis.call('ZADD', KEYS[group], score, name)
end
