-- KEYS[1] is a checkpoint.
local function front_of(bytes)
    local layout, state, mode, flags, revision, fence, attempt, deaths, messages, version, place, created, lease, due, hint,
        finished, outcome_until, tombstone, id_bytes, text_bytes, reason_bytes, request_bytes, outcome_bytes, at =
        struct.unpack(FRONT, bytes)
    if layout ~= 1 then
        error('RETRYSAFE-LAYOUT ' .. layout)
    end
    -- Written out, so that the table has its size from the beginning: growing it field by field takes as long as all else.
    return {
        state = state, mode = mode, flags = flags, revision = revision, fence = fence, attempt = attempt, deaths = deaths,
        messages = messages, version = version, place = place, created = created, lease = lease, due = due, hint = hint,
        finished = finished, outcome_until = outcome_until, tombstone = tombstone, id_bytes = id_bytes,
        text_bytes = text_bytes, reason_bytes = reason_bytes, request_bytes = request_bytes,
        outcome_bytes = outcome_bytes, id = string.sub(bytes, at, at + id_bytes - 1),
        group = (state == PARKED and 3) or ((state < 3 or state == UNDOING) and 2) or 4
    }
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

local function holds(r, id, fence)
    return r ~= nil and r.id == id and r.fence == tonumber(fence)
end
