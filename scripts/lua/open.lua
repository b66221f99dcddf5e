-- Purpose: R3, opens the shell that PostgreSQL recorded. Never creates a ledger.
-- KEYS[1] ledger: the partition's ledger
-- ARGV[1] epoch: the one to open
-- ARGV[2] run_id: as recorded with the epoch
-- ARGV[3] replid: as recorded with the epoch
-- ARGV[4] nonce: as recorded with the epoch
-- Reply: done | refused
local ledger = redis.call('HMGET', KEYS[1], 'e', 'state', 'nonce')
local replication = redis.call('INFO', 'replication')
-- A missing ledger has no nonce: what FLUSHALL took is not made again here.
if ledger[3] ~= ARGV[4] then return {'refused'} end
if redis.call('INFO', 'server'):match('run_id:(%x+)') ~= ARGV[2] then return {'refused'} end
if replication:match('master_replid:(%x+)') ~= ARGV[3] then return {'refused'} end
if replication:match('role:(%a+)') ~= 'master' then return {'refused'} end

if ledger[2] == 'open' and ledger[1] == ARGV[1] then return {'done'} end
-- A frozen ledger gave its counters away and must never sell again.
if ledger[2] ~= 'shell' then return {'refused'} end
redis.call('HSET', KEYS[1], 'e', ARGV[1], 'state', 'open')
return {'done'}
