-- needs: clock
-- Returns a checkpoint, and with KEYS[2] its memos, as of one moment (R4). ARGV: now.
return {stamp(), redis.call('GET', KEYS[1]) or '', KEYS[2] and redis.call('HVALS', KEYS[2]) or {}}
