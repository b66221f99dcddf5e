-- Purpose: G1, sets aside places for bookings, judged one after the other, and writes the outbox.
-- KEYS[1] ledger: the partition's ledger
-- KEYS[2] out: the partition's outbox
-- KEYS[3] releases: the windows of releases
-- KEYS[4] session: the slots of one, then who: the patients known there; others follow likewise
-- ARGV[1] epoch: the first booking's, then its session's place in KEYS, ordinal, patient, id, entry
-- for `who`, now in Unix milliseconds, and itself as JSON; the others follow likewise
-- Reply: judged, then a text for each booking, as if it had come alone:
-- Reply: held left ticket settled | replayed id epoch live | key_reused | already_booked id | sold_out
-- Reply: not_open opens | paused | closed | not_preheated | other_epoch e | shut | fenced
local ledger = redis.call('HMGET', KEYS[1], 'e', 'state', 'run_id', 'replid', 'held', 'settled')
local slots, sold, known, entries, out, fenced = {}, {}, {}, {}, {}, nil
local function judge(epoch, at, ordinal, patient, id, entry, now, booking)
  if ledger[2] ~= 'open' then return 'shut' end
  if ledger[1] ~= epoch then return 'other_epoch ' .. ledger[1] end
  local session, who = KEYS[tonumber(at)], KEYS[at + 1]
  local first = known[who .. ' ' .. patient] or redis.call('HGET', who, patient)
  if first then
    local its, key, request, its_epoch, live = first:match('^(%d+),(%x+),(%x+),(%d+),([01])$')
    local own_key, own_request = entry:match(',(%x+),(%x+),')
    if key == own_key and request ~= own_request then return 'key_reused' end
    if key == own_key then return ('replayed %s %s %s'):format(its, its_epoch, live) end
    if live == '1' then return 'already_booked ' .. its end
  end
  local slot = slots[session .. ' ' .. ordinal] or {}
  if not slot.left then
    local fields = redis.call('HMGET', session, 'e', 'r', ordinal)
    local text = (fields[1] == epoch and fields[3] or ''):gsub('^%d+$', '%0,%0,0') -- all is left
    slot.left, slot.granted, slot.sold, slot.tail = text:match('^(%d+),(%d+),(%d+)(,?%d*)$')
    local release = slot.tail == '' and fields[2] or (slot.tail or ''):sub(2)
    slot.window = redis.call('HGET', KEYS[3], release)
    slots[session .. ' ' .. ordinal], slot.session, slot.ordinal = slot, session, ordinal
  end
  local opens, closes, paused = (slot.window or ''):match('^%d+,(%-?%d+),(%-?%d+),([01])$')
  if not opens then return 'not_preheated' end
  if tonumber(now) < tonumber(opens) then return 'not_open ' .. opens end
  if paused == '1' then return 'paused' end
  if tonumber(now) >= tonumber(closes) then return 'closed' end
  if tonumber(slot.left) == 0 then return 'sold_out' end
  if fenced == nil then
    local server, replication = redis.call('INFO', 'server'), redis.call('INFO', 'replication')
    fenced = server:match('run_id:(%x+)') ~= ledger[3] or replication:match('role:(%a+)') ~= 'master'
      or replication:match('master_replid:(%x+)') ~= ledger[4]
  end
  if fenced then return 'fenced' end
  slot.left, slot.sold, sold[slot], known[who .. ' ' .. patient] = slot.left - 1, slot.sold + 1, true, entry
  entries[#entries + 1], out[#out + 1], out[#out + 2] = {who, patient, entry}, id, booking
  return ('held %d %d %s'):format(slot.left, (ledger[5] or 0) + #out / 2, ledger[6] or '0')
end
local reply = {'judged'}
for i = 1, #ARGV, 8 do reply[#reply + 1] = judge(unpack(ARGV, i, i + 7)) end
if #out == 0 then return reply end
redis.call('HSET', KEYS[2], unpack(out))
for _, entry in ipairs(entries) do redis.call('HSET', unpack(entry)) end
for slot in pairs(sold) do
  local counters = ('%d,%s,%d%s'):format(slot.left, slot.granted, slot.sold, slot.tail)
  redis.call('HSET', slot.session, slot.ordinal, counters)
end
redis.call('HINCRBY', KEYS[1], 'held', #out / 2)
return reply
