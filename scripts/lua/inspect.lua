-- Purpose: tells what a ledger says of itself, and on which life of Redis it was read.
-- KEYS[1] ledger: the partition's ledger
-- KEYS[2] out: the partition's outbox
-- Reply: found run_id replid outbox_len, then e state run_id replid nonce held settled, nil where absent
local reply = {
  'found',
  redis.call('INFO', 'server'):match('run_id:(%x+)'),
  redis.call('INFO', 'replication'):match('master_replid:(%x+)'),
  redis.call('HLEN', KEYS[2]),
}
local fields = {'e', 'state', 'run_id', 'replid', 'nonce', 'held', 'settled'}
for i, value in ipairs(redis.call('HMGET', KEYS[1], unpack(fields))) do reply[4 + i] = value end
return reply
