-- Lists the audit of a bucket. KEYS[1]: it. ARGV: now.
return redis.call('LRANGE', KEYS[1], 0, -1)
