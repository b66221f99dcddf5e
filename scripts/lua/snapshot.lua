-- Purpose: reads the counters of some sessions, of whatever epoch the ledger is.
-- KEYS[1] ledger: the partition's ledger
-- KEYS[2] session: the slots of a session; any number of further sessions follow
-- Reply: counters, then per session its fields and values, empty if it is of another epoch
local e = redis.call('HGET', KEYS[1], 'e')
local reply = {'counters'}
for i = 2, #KEYS do
  local is_current = e and redis.call('HGET', KEYS[i], 'e') == e
  reply[i] = is_current and redis.call('HGETALL', KEYS[i]) or {}
end
return reply
