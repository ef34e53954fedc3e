-- Tells whether the meta row is there; makes nothing.
return {redis.call('EXISTS', KEYS[1])}
