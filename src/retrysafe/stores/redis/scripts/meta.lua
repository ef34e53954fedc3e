-- Makes the meta row, or returns the one that is there (K4). ARGV: now, the row.
redis.call('SET', KEYS[1], ARGV[2], 'NX')
return {redis.call('GET', KEYS[1])}
