-- Puts ARGV[first] and those behind it into the outbox: `fresh` and `messages` are its keys (R12, I11).
local function enqueue(r, first, fresh, messages)
    for at = first, #ARGV do
        r.messages = r.messages + 1
        local field = struct.pack('>I4', r.messages) .. r.id
        redis.call('HSET', messages, field, struct.pack('>I8', micros) .. ARGV[at])
        redis.call('ZADD', fresh, micros, struct.pack('>I8', micros) .. field)
    end
end
