-- Returns a checkpoint without request and outcome, for listings and scans. ARGV: now.
local r = front()
if not r then
    return {stamp, ''}
end
local bytes = FRONT_BYTES + r.id_bytes + r.text_bytes + math.max(r.reason_bytes, 0)
return {stamp, redis.call('GETRANGE', KEYS[1], 0, bytes - 1)}
