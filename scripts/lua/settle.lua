-- Purpose: W4, takes persisted bookings of one session out of the outbox and notes which are live.
-- KEYS[1] ledger: the partition's ledger
-- KEYS[2] who: the patients known in the bookings' session
-- KEYS[3] out: the partition's outbox
-- ARGV[1] id: the first booking's
-- ARGV[2] patient: the first booking's
-- ARGV[3] entry: what to remember of it, its last word 1 if live, else 0; the others follow likewise
-- Reply: done
local function remember(id, patient, entry)
  local known = redis.call('HGET', KEYS[2], patient)
  local is_live = entry:sub(-2) == ',1'
  if not known then
    redis.call('HSET', KEYS[2], patient, entry)
  elseif known:match('^%d+') == id then
    -- The same booking: live only ever becomes dead, so a late call can't revive it.
    if not is_live then redis.call('HSET', KEYS[2], patient, entry) end
  elseif is_live and known:sub(-2) ~= ',1' then
    redis.call('HSET', KEYS[2], patient, entry)
  end
end

local were_out = 0
for at = 1, #ARGV, 3 do
  were_out = were_out + redis.call('HDEL', KEYS[3], ARGV[at])
  remember(ARGV[at], ARGV[at + 1], ARGV[at + 2])
end
-- Counting must not make a ledger where there is none.
if were_out > 0 and redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HINCRBY', KEYS[1], 'settled', were_out)
end
return {'done'}
