-- needs: clock front checkpoint index
-- Drops a tombstone that is over, or an outcome; never what is open or parked (S10). KEYS[5]: memos. ARGV: now, id.
local r = front_if_known()
if not r or r.id ~= ARGV[2] or r.group ~= 4 then
    return {''}
end
if r.tombstone <= now then
    redis.call('ZREM', KEYS[4], member(r))
    redis.call('DEL', KEYS[1], KEYS[5])
    return {'deleted'}
elseif (r.state == DONE or r.state == UNDONE) and r.outcome_until <= now then
    local bytes = FRONT_BYTES + r.id_bytes + r.text_bytes + math.max(r.reason_bytes, 0) + math.max(r.request_bytes, 0)
    local rest = redis.call('GETRANGE', KEYS[1], FRONT_BYTES, bytes - 1)
    r.state, r.outcome_bytes = EXPIRED, -1
    -- First what may be done when the memory is full; what has written already may write the rest.
    redis.call('DEL', KEYS[5])
    redis.call('ZREM', KEYS[4], member(r))
    redis.call('SET', KEYS[1], packed(r) .. rest)
    enlist(r, 4)
    return {'expired'}
end
return {''}
