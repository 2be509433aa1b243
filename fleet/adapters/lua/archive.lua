-- What leaves a shard: sealed parts of logs, and tickets that ended long ago. All of it, or nothing.
-- KEYS[1] = <prefix>:epoch. ARGV = prefix, epoch, then operations:
--   S ticket bytes minid     what is sealed of the ticket; its stream keeps only entries from minid on
--   F ticket version past    ticket forgotten, if it still has that version; past is what is remembered
--   U name                   key <prefix>:name gone
--   B role effect            who began the effect is forgotten
-- Answers "OK", "EPOCH" (somebody else owns the shard now) or "VERSION <ticket>".
local width = {S = 3, F = 3, U = 1, B = 2}
local p = ARGV[1]
if redis.call('GET', KEYS[1]) ~= ARGV[2] then return 'EPOCH' end
local i = 3
while i <= #ARGV do
  if ARGV[i] == 'F' and redis.call('HGET', p .. ':ver', ARGV[i + 1]) ~= ARGV[i + 2] then
    return 'VERSION ' .. ARGV[i + 1]
  end
  i = i + 1 + width[ARGV[i]]
end
i = 3
while i <= #ARGV do
  local op, a, b, c = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  if op == 'S' then
    redis.call('HSET', p .. ':sealed', a, b)
    -- The stream stays even when it is empty: its next entry must come after those that were sealed.
    redis.call('XTRIM', p .. ':log:' .. a, 'MINID', c)
  elseif op == 'F' then
    redis.call('HSET', p .. ':past', a, c)
    redis.call('HDEL', p .. ':view', a)
    redis.call('HDEL', p .. ':ver', a)
    redis.call('HDEL', p .. ':sealed', a)
    redis.call('SREM', p .. ':cancelled', a)
    redis.call('ZREM', p .. ':deadlines', a)
    redis.call('UNLINK', p .. ':log:' .. a)
  elseif op == 'U' then
    redis.call('UNLINK', p .. ':' .. a)
  elseif op == 'B' then
    redis.call('HDEL', p .. ':begun:' .. a, b)
  end
  i = i + 1 + width[op]
end
return 'OK'
