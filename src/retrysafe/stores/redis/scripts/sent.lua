-- Deletes messages that have left (R12). KEYS: fresh, taken, messages. ARGV: now, their fields.
if redis.call('EXISTS', KEYS[3]) == 1 then
    for at = 2, #ARGV do
        local message = redis.call('HGET', KEYS[3], ARGV[at])
        if message then
            local name = string.sub(message, 1, 8) .. ARGV[at]
            redis.call('ZREM', KEYS[1], name)
            redis.call('ZREM', KEYS[2], name)
            redis.call('HDEL', KEYS[3], ARGV[at])
        end
    end
end
return {}
