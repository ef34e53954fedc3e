-- needs: clock
-- Lists messages that are due, in the order in which they entered. KEYS[1]: fresh ones, [2]: ones taken before.
-- ARGV: now, how many.
local taken = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 1000)
return {redis.call('ZRANGE', KEYS[1], 0, ARGV[2] - 1), taken}
