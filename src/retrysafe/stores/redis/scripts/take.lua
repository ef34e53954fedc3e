-- needs: clock
-- Takes a message for a while, if it is due still, and returns it (R12). KEYS: fresh, taken, messages.
-- ARGV: now, which, for how many seconds.
if redis.call('ZREM', KEYS[1], ARGV[2]) == 0 then
    local due = redis.call('ZSCORE', KEYS[2], ARGV[2])
    if not due or tonumber(due) > now then
        return {''}
    end
end
redis.call('ZADD', KEYS[2], now + tonumber(ARGV[3]), ARGV[2])
return {redis.call('HGET', KEYS[3], string.sub(ARGV[2], 9))}
