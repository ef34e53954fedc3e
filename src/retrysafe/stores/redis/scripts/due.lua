-- needs: clock
-- Lists an index, in order: what is due by now, or all. KEYS[1]: the index. ARGV: now, from which place on, how many, all.
return {stamp(), redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[4] == '1' and '+inf' or now, 'LIMIT', ARGV[2], ARGV[3])}
