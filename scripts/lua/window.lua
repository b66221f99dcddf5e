-- Purpose: sets the window of a release, unless a later version of it stands.
-- KEYS[1] releases: the windows of releases
-- ARGV[1] release: whose window it is
-- ARGV[2] version: the window's
-- ARGV[3] opens: first instant of booking, in Unix milliseconds
-- ARGV[4] closes: first instant after booking, in Unix milliseconds
-- ARGV[5] paused: 1 if held up by an admin, else 0
-- Reply: done
local known = redis.call('HGET', KEYS[1], ARGV[1])
if known and tonumber(known:match('^%d+')) > tonumber(ARGV[2]) then return {'done'} end
redis.call('HSET', KEYS[1], ARGV[1], table.concat({ARGV[2], ARGV[3], ARGV[4], ARGV[5]}, ','))
return {'done'}
