-- needs: clock front checkpoint
-- Returns a checkpoint without request and outcome, for listings and scans. ARGV: now.
local r, bytes = front_if_known()
if not r then
    return {stamp(), bytes}
end
local length = FRONT_BYTES + r.id_bytes + r.text_bytes + math.max(r.reason_bytes, 0)
return {stamp(), redis.call('GETRANGE', KEYS[1], 0, length - 1)}
