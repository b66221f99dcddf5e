-- Purpose: R1, puts an empty closed shell where the ledger is missing, untrue, behind or sealed.
-- KEYS[1] ledger: the partition's ledger
-- KEYS[2] out: the partition's outbox
-- ARGV[1] nonce: the shell's
-- ARGV[2] current: the newest epoch PostgreSQL knows, 0 if none
-- ARGV[3] sealed: 1 if that epoch is sealed, else 0
-- Reply: shell run_id replid | not_needed
local replication = redis.call('INFO', 'replication')
local run_id = redis.call('INFO', 'server'):match('run_id:(%x+)')
local replid = replication:match('master_replid:(%x+)')
if replication:match('role:(%a+)') ~= 'master' then
  return redis.error_reply('READONLY a ledger is prepared on a primary only')
end

-- A shell keeps the number of the epoch before it, so only its state tells that it was never opened.
-- It is always replaced: its nonce may have died with whoever made it.
local ledger = redis.call('HMGET', KEYS[1], 'e', 'state', 'run_id', 'replid')
local e, current = tonumber(ledger[1] or 0), tonumber(ARGV[2])
local is_needed = ledger[2] ~= 'open' and ledger[2] ~= 'frozen'
is_needed = is_needed or ledger[3] ~= run_id
is_needed = is_needed or ledger[4] ~= replid
is_needed = is_needed or e < current
is_needed = is_needed or (e == current and ARGV[3] == '1')
if not is_needed then return {'not_needed'} end

redis.call('HSETNX', KEYS[1], 'e', 0)
redis.call('HSET', KEYS[1],
  'state', 'shell', 'nonce', ARGV[1], 'run_id', run_id, 'replid', replid)
redis.call('HSETNX', KEYS[1], 'held', redis.call('HLEN', KEYS[2]))
redis.call('HSETNX', KEYS[1], 'settled', 0)
return {'shell', run_id, replid}
