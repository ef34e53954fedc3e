-- needs: clock front checkpoint
-- Writes a memo under the fence (R5, I2). KEYS[5]: memos, [6], [7]: outbox.
-- ARGV: now, id, fence, states in which it may be written, field, status, timeout, value or nothing, whether there is a
-- value, what of the memo never changes, whether it is the pivot; messages.
local INTENT = 1
local MEMO = '>BI4dddi4I4'
local r = front()
local there = redis.call('HGET', KEYS[5], ARGV[5])
local status, fence = tonumber(ARGV[6]), tonumber(ARGV[3])
local s, f, timeout, began, ended, value_bytes, base_bytes, at
if there then
    s, f, timeout, began, ended, value_bytes, base_bytes, at = struct.unpack(MEMO, there)
end
local fits = not there or (s == INTENT and (status ~= INTENT or fence > f))
if not fits or not holds(r, ARGV[2], ARGV[3]) or not string.find(ARGV[4], r.state, 1, true) then
    return {stamp(), redis.call('GET', KEYS[1]), there}
end
local base, value = ARGV[10], ARGV[8]
local new_value_bytes = ARGV[9] == '1' and string.len(value) or -1
if not there then
    timeout, began, ended = tonumber(ARGV[7]), now, status == INTENT and -1 or now
else
    base = string.sub(there, at, at + base_bytes - 1)
    if status == INTENT then
        -- Written anew: how long its call may be under way counts from now.
        timeout = math.max(timeout, now - began + tonumber(ARGV[7]))
        new_value_bytes, value = value_bytes, string.sub(there, at + base_bytes)
    else
        ended = now
    end
end
local memo = struct.pack(MEMO, status, fence, timeout, began, ended, new_value_bytes, string.len(base))
-- Frees nothing, and may be done when the memory is full; what has written already may write the rest.
redis.call('ZREM', KEYS[2], '')
redis.call('HSET', KEYS[5], ARGV[5], memo .. base .. value)
if ARGV[11] == '1' and r.flags < PIVOTED_FLAG then
    r.flags = r.flags + PIVOTED_FLAG
end
for number = 12, #ARGV do
    r.messages = r.messages + 1
    local name = struct.pack('>I4', r.messages) .. r.id
    redis.call('HSET', KEYS[7], name, struct.pack('>I8', micros) .. ARGV[number])
    redis.call('ZADD', KEYS[6], micros, struct.pack('>I8', micros) .. name)
end
redis.call('SETRANGE', KEYS[1], 0, packed(r))
return {}
