-- Purpose: R6, shuts the true ledger for good and tells the counters of some sessions.
-- KEYS[1] ledger: the partition's ledger
-- KEYS[2] session: the slots of a session; any number of further sessions follow
-- ARGV[1] epoch: the one to freeze
-- ARGV[2] nonce: the epoch's
-- Reply: done, then per session its fields and values, empty if it is of another epoch | refused
local ledger = redis.call('HMGET', KEYS[1], 'e', 'state', 'nonce', 'run_id', 'replid')
local replication = redis.call('INFO', 'replication')
if ledger[1] ~= ARGV[1] then return {'refused'} end
if ledger[2] == 'shell' then return {'refused'} end
if ledger[3] ~= ARGV[2] then return {'refused'} end
if redis.call('INFO', 'server'):match('run_id:(%x+)') ~= ledger[4] then return {'refused'} end
if replication:match('master_replid:(%x+)') ~= ledger[5] then return {'refused'} end
if replication:match('role:(%a+)') ~= 'master' then return {'refused'} end

redis.call('HSET', KEYS[1], 'state', 'frozen')
local reply = {'done'}
for i = 2, #KEYS do
  local is_current = redis.call('HGET', KEYS[i], 'e') == ARGV[1]
  reply[i] = is_current and redis.call('HGETALL', KEYS[i]) or {}
end
return reply
