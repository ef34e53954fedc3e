-- Put before each script. KEYS[1] is the checkpoint; KEYS[2], [3] and [4] are its bucket's open, parked and closed ones.
-- ARGV[1] is empty, for the server's own time (C2), or an instant that a test has made up.
-- A checkpoint is a fixed front, which `layout.py` draws, followed by id, text, reason, request and outcome.
local FRONT = '>BBBBI4I4I4i4I4I4ddddddddBI4i4i4i4'
local RUNNING, STREAMING, RELEASED, UNDOING, PARKED, DONE, UNDONE, EXPIRED = 1, 2, 3, 4, 5, 6, 7, 8
local UNDOING_FLAG, PIVOTED_FLAG = 1, 2
local FRONT_BYTES, FRONT_AND_ID_BYTES = 109, 364

local time = redis.call('TIME')
local micros = tonumber(time[1]) * 1000000 + tonumber(time[2])
local now = ARGV[1] == '' and micros / 1000000 or tonumber(ARGV[1])
-- Whole, where a number in an answer would be cut.
local stamp = string.format('%.17g', now)

local function front_of(bytes)
    local r = {}
    local layout, at
    layout, r.state, r.mode, r.flags, r.revision, r.fence, r.attempt, r.deaths, r.messages, r.version, r.place,
        r.created, r.lease, r.due, r.hint, r.finished, r.outcome_until, r.tombstone, r.id_bytes, r.text_bytes,
        r.reason_bytes, r.request_bytes, r.outcome_bytes, at = struct.unpack(FRONT, bytes)
    if layout ~= 1 then
        error('RETRYSAFE-LAYOUT ' .. layout)
    end
    r.id = string.sub(bytes, at, at + r.id_bytes - 1)
    r.group = (r.state == PARKED and 3) or ((r.state < 3 or r.state == UNDOING) and 2) or 4
    return r
end

local function front()
    local bytes = redis.call('GETRANGE', KEYS[1], 0, FRONT_AND_ID_BYTES - 1)
    return bytes ~= '' and front_of(bytes) or nil
end

-- The same for what walks over many, and must not stop at one that a newer version wrote (S11).
local function front_if_known()
    local bytes = redis.call('GETRANGE', KEYS[1], 0, FRONT_AND_ID_BYTES - 1)
    return string.byte(bytes) == 1 and front_of(bytes) or nil, bytes
end

local function packed(r)
    r.revision = (r.revision + 1) % 4294967296
    return struct.pack(FRONT, 1, r.state, r.mode, r.flags, r.revision, r.fence, r.attempt, r.deaths, r.messages, r.version,
        r.place, r.created, r.lease, r.due, r.hint, r.finished, r.outcome_until, r.tombstone, r.id_bytes, r.text_bytes,
        r.reason_bytes, r.request_bytes, r.outcome_bytes)
end

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

local function holds(r, id, fence)
    return r ~= nil and r.id == id and r.fence == tonumber(fence)
end

-- Puts ARGV[first] and those behind it into the outbox: `fresh` and `messages` are its keys (R12, I11).
local function enqueue(r, first, fresh, messages)
    for at = first, #ARGV do
        r.messages = r.messages + 1
        local field = struct.pack('>I4', r.messages) .. r.id
        redis.call('HSET', messages, field, struct.pack('>I8', micros) .. ARGV[at])
        redis.call('ZADD', fresh, micros, struct.pack('>I8', micros) .. field)
    end
end
