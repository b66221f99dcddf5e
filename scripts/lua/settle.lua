-- Purpose: W4, takes a persisted booking out of the outbox and notes whether it is live.
-- KEYS[1] ledger: the partition's ledger
-- KEYS[2] who: the patients known in the booking's session
-- KEYS[3] out: the partition's outbox
-- ARGV[1] id: the booking's
-- ARGV[2] patient: the booking's
-- ARGV[3] entry: what to remember of the booking, its last word 1 if live, else 0
-- Reply: done
local was_out = redis.call('HDEL', KEYS[3], ARGV[1]) == 1
-- Counting must not make a ledger where there is none.
if was_out and redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HINCRBY', KEYS[1], 'settled', 1) end

local known = redis.call('HGET', KEYS[2], ARGV[2])
local is_live = ARGV[3]:sub(-2) == ',1'
if not known then
  redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
elseif known:match('^%d+') == ARGV[1] then
  -- The same booking: live only ever becomes dead, so a late call can't revive it.
  if not is_live then redis.call('HSET', KEYS[2], ARGV[2], ARGV[3]) end
elseif is_live and known:sub(-2) ~= ',1' then
  redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
end
return {'done'}
