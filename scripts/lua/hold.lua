-- Purpose: G1, sets aside one place of a slot for a booking and writes the booking in the outbox.
-- KEYS[1] ledger: the partition's ledger
-- KEYS[2] session: the slots of the slot's session
-- KEYS[3] who: the patients known in that session
-- KEYS[4] out: the partition's outbox
-- KEYS[5] releases: the windows of releases
-- ARGV[1] epoch: the caller's
-- ARGV[2] ordinal: the slot's place in its session
-- ARGV[3] patient: who is to be seen
-- ARGV[4] id: the booking's
-- ARGV[5] key: digest of the idempotency key
-- ARGV[6] request: digest of the request
-- ARGV[7] now: in Unix milliseconds
-- ARGV[8] booking: as JSON, for the outbox
-- Reply: held left ticket settled | replayed id epoch live | key_reused | already_booked id | sold_out
-- Reply: not_open opens | paused | closed | not_preheated | other_epoch e | shut | fenced
local ledger = redis.call('HMGET', KEYS[1], 'e', 'state', 'run_id', 'replid', 'settled')
if ledger[2] ~= 'open' then return {'shut'} end
if ledger[1] ~= ARGV[1] then return {'other_epoch', ledger[1]} end

local known = redis.call('HGET', KEYS[3], ARGV[3])
if known then
  local id, key, request, epoch, live = known:match('^(%d+),(%x+),(%x+),(%d+),([01])$')
  if key == ARGV[5] and request == ARGV[6] then return {'replayed', id, epoch, live} end
  if key == ARGV[5] then return {'key_reused'} end
  if live == '1' then return {'already_booked', id} end
end

local session = redis.call('HMGET', KEYS[2], 'e', ARGV[2])
if session[1] ~= ledger[1] then return {'not_preheated'} end
if not session[2] then return {'not_preheated'} end
local left, granted, sold, release = session[2]:match('^(%d+),(%d+),(%d+),(%d+)$')

local window = redis.call('HGET', KEYS[5], release)
if not window then return {'not_preheated'} end
local opens, closes, paused = window:match('^%d+,(%-?%d+),(%-?%d+),([01])$')
if tonumber(ARGV[7]) < tonumber(opens) then return {'not_open', opens} end
if paused == '1' then return {'paused'} end
if tonumber(ARGV[7]) >= tonumber(closes) then return {'closed'} end

if left == '0' then return {'sold_out'} end

-- Winners only: reading INFO is most of the cost of a hold.
local replication = redis.call('INFO', 'replication')
if redis.call('INFO', 'server'):match('run_id:(%x+)') ~= ledger[3] then return {'fenced'} end
if replication:match('master_replid:(%x+)') ~= ledger[4] then return {'fenced'} end
if replication:match('role:(%a+)') ~= 'master' then return {'fenced'} end

local slot = string.format('%d,%s,%d,%s', left - 1, granted, sold + 1, release)
redis.call('HSET', KEYS[2], ARGV[2], slot)
redis.call('HSET', KEYS[3], ARGV[3], table.concat({ARGV[4], ARGV[5], ARGV[6], ARGV[1], '1'}, ','))
redis.call('HSET', KEYS[4], ARGV[4], ARGV[8])
local ticket = redis.call('HINCRBY', KEYS[1], 'held', 1)
return {'held', left - 1, ticket, ledger[5] or '0'}
