-- Purpose: W4, takes persisted bookings out of the outbox and notes which are live.
-- KEYS[1] ledger: the partition's ledger
-- KEYS[2] out: the partition's outbox
-- KEYS[3] who: the patients known in the first booking's session; those of further sessions follow
-- ARGV[1] session: which of KEYS[3..] the first booking's is, from 1
-- ARGV[2] id: the first booking's
-- ARGV[3] patient: the first booking's
-- ARGV[4] entry: what to remember of it, its last word 1 if live, else 0; the others follow likewise
-- Reply: done
local function remember(who, id, patient, entry)
  local known = redis.call('HGET', who, patient)
  local is_live = entry:sub(-2) == ',1'
  if not known then
    redis.call('HSET', who, patient, entry)
  elseif known:match('^%d+') == id then
    -- The same booking: live only ever becomes dead, so a late call can't revive it.
    if not is_live then redis.call('HSET', who, patient, entry) end
  elseif is_live and known:sub(-2) ~= ',1' then
    redis.call('HSET', who, patient, entry)
  end
end

local were_out = 0
for at = 1, #ARGV, 4 do
  were_out = were_out + redis.call('HDEL', KEYS[2], ARGV[at + 1])
  remember(KEYS[2 + tonumber(ARGV[at])], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3])
end
-- Counting must not make a ledger where there is none.
if were_out > 0 and redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HINCRBY', KEYS[1], 'settled', were_out)
end
return {'done'}
