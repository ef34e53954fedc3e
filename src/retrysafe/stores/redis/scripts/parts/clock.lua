-- ARGV[1] is empty, for the server's own time (C2), or an instant that a test has made up.
local time = redis.call('TIME')
local micros = tonumber(time[1]) * 1000000 + tonumber(time[2])
local now = ARGV[1] == '' and micros / 1000000 or tonumber(ARGV[1])

-- As text: a number in an answer would be cut.
local function stamp()
    return string.format('%.17g', now)
end
