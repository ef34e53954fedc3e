-- needs: clock front checkpoint index
-- A fenced write of an attempt: release, park, begin_stream, postpone, begin_undo (C4).
-- ARGV: now, id, fence, state or 0 to stay, states that it may leave, seconds from now of lease and due or nothing, whether
-- deaths begin anew, and reason, request and outcome: k to keep it, n for none, or s and, behind it, what it is now.
local met = redis.call('GET', KEYS[1])
if not met then
    return {stamp()}
end
local r = front_of(met)
if not holds(r, ARGV[2], ARGV[3]) or not string.find(ARGV[5], r.state, 1, true) then
    return {stamp(), met}
end
local at = FRONT_BYTES + r.id_bytes + 1
local text = string.sub(met, at, at + r.text_bytes - 1)
at = at + r.text_bytes

local function part(bytes, how, new)
    local from = at
    at = at + math.max(bytes, 0)
    if how == 'k' then
        return bytes, bytes > 0 and string.sub(met, from, at - 1) or ''
    elseif how == 'n' then
        return -1, ''
    end
    return string.len(new), new
end

local reason, request, outcome
r.reason_bytes, reason = part(r.reason_bytes, ARGV[9], ARGV[10])
r.request_bytes, request = part(r.request_bytes, ARGV[11], '')
r.outcome_bytes, outcome = part(r.outcome_bytes, ARGV[12], ARGV[13])
if ARGV[4] ~= '0' then
    r.state = tonumber(ARGV[4])
end
if r.state == UNDOING and r.flags % 2 == 0 then
    r.flags = r.flags + UNDOING_FLAG
end
if ARGV[6] ~= '' then
    r.lease, r.due, r.hint = now + ARGV[6], now + ARGV[7], 0
end
if ARGV[8] == '1' then
    r.deaths = 0
end
-- Frees nothing, and may be done when the memory is full; what has written already may write the rest.
redis.call('ZREM', KEYS[2], '')
redis.call('SET', KEYS[1], packed(r) .. r.id .. text .. reason .. request .. outcome)
enlist(r, r.group)
return {}
