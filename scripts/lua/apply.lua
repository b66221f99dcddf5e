-- Purpose: R5, raises the grants of one session and fills in who holds a live booking there.
-- KEYS[1] ledger: the partition's ledger
-- KEYS[2] session: the slots of the session
-- KEYS[3] who: the patients known in the session
-- ARGV[1] epoch: the grants'
-- ARGV[2] nonce: the epoch's
-- ARGV[3] count: of grants
-- ARGV[4] ordinal: the first grant's slot
-- ARGV[5] granted: all that the epoch was ever granted of it
-- ARGV[6] release: whose window binds it; the other grants follow likewise, if there are any at all
-- and after them patient and entry of each live booking
-- Reply: done | refused
local ledger = redis.call('HMGET', KEYS[1], 'e', 'state', 'nonce', 'run_id', 'replid')
local replication = redis.call('INFO', 'replication')
if ledger[1] ~= ARGV[1] then return {'refused'} end
if ledger[2] ~= 'open' then return {'refused'} end
if ledger[3] ~= ARGV[2] then return {'refused'} end
if redis.call('INFO', 'server'):match('run_id:(%x+)') ~= ledger[4] then return {'refused'} end
if replication:match('master_replid:(%x+)') ~= ledger[5] then return {'refused'} end
if replication:match('role:(%a+)') ~= 'master' then return {'refused'} end

if redis.call('HGET', KEYS[2], 'e') ~= ARGV[1] then
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[2], 'e', ARGV[1])
end

local grants_end = 3 + 3 * tonumber(ARGV[3])
-- Nearly always all slots of a session have one release: it is kept once, with the first grants.
if grants_end > 3 and redis.call('HLEN', KEYS[2]) == 1 then
  redis.call('HSET', KEYS[2], 'r', ARGV[6])
end
local common = redis.call('HGET', KEYS[2], 'r')
for i = 4, grants_end, 3 do
  local slot = redis.call('HGET', KEYS[2], ARGV[i]) or '0'
  local left, granted, sold = slot:gsub('^%d+$', '%0,%0,0'):match('^(%d+),(%d+),(%d+)')
  local more = ARGV[i + 1] - granted
  if more >= 0 then
    local tail = ARGV[i + 2] == common and '' or ',' .. ARGV[i + 2]
    local is_whole = left == granted and sold == '0' and tail == ''
    slot = ('%d,%d,%s%s'):format(left + more, granted + more, sold, tail)
    -- Redis keeps a lone number in a few bytes.
    if is_whole then slot = ('%d'):format(granted + more) end
    redis.call('HSET', KEYS[2], ARGV[i], slot)
  end
end

for i = grants_end + 1, #ARGV, 2 do
  local known = redis.call('HGET', KEYS[3], ARGV[i])
  local is_live = known and known:sub(-2) == ',1'
  -- A booking that died after the caller read it as live stays dead: no final state changes.
  local is_same = known and known:match('^%d+') == ARGV[i + 1]:match('^%d+')
  if not is_live and not is_same then redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1]) end
end
return {'done'}
