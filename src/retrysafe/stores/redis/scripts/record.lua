-- needs: clock front
-- Records an outcome, erases request and reason, and puts messages into the outbox; final (S1, R13, I11).
-- Every operation comes by here: so it is written without the functions that other scripts share.
-- ARGV: now, id, fence, state, states that it may leave, seconds of retention and of the tombstone, outcome, messages.
-- KEYS[5], [6]: outbox, if there are any.
local met = redis.call('GET', KEYS[1])
if not met then
    return {stamp()}
end
local layout, state, mode, flags, revision, fence, attempt, deaths, messages, version, place, created, lease, due, hint, _, _,
    _, id_bytes, text_bytes, _, _, _, at = struct.unpack(FRONT, met)
if layout ~= 1 then
    error('RETRYSAFE-LAYOUT ' .. layout)
end
local target = tonumber(ARGV[4])
if fence ~= tonumber(ARGV[3]) or string.sub(met, at, at + id_bytes - 1) ~= ARGV[2]
    or not string.find(ARGV[5], state, 1, true)
    -- What turned back never goes forward again (I9).
    or (target == DONE and flags % 2 == UNDOING_FLAG) then
    return {stamp(), met}
end
-- Frees nothing, and may be done when the memory is full; what has written already may write the rest.
redis.call('ZREM', KEYS[2], '')
for number = 9, #ARGV do
    messages = messages + 1
    local field = struct.pack('>I4', messages) .. ARGV[2]
    redis.call('HSET', KEYS[6], field, struct.pack('>I8', micros) .. ARGV[number])
    redis.call('ZADD', KEYS[5], micros, struct.pack('>I8', micros) .. field)
end
local outcome_until, tombstone, outcome = now + ARGV[6], now + ARGV[7], ARGV[8]
local front = struct.pack(FRONT, 1, target, mode, flags, (revision + 1) % 4294967296, fence, attempt, deaths, messages,
    version, place, created, lease, due, hint, now, outcome_until, tombstone, id_bytes, text_bytes, -1, -1,
    string.len(outcome))
redis.call('SET', KEYS[1], front .. string.sub(met, at, at + id_bytes + text_bytes - 1) .. outcome)
local name = struct.pack('>I8', place) .. string.sub(KEYS[1], -16) .. ARGV[2]
redis.call('ZREM', KEYS[state == PARKED and 3 or 2], name)
redis.call('ZADD', KEYS[4], math.min(outcome_until, tombstone), name)
return {}
