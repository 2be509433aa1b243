-- The atomic step of a shard's owner: all of a batch, or nothing.
-- KEYS[1] = <prefix>:epoch. ARGV = prefix, epoch, then operations:
--   V ticket expected new bytes   view with its version (expected "0": must not exist)
--   L ticket bytes                log entry
--   O effect bytes                order into the outbox
--   X effect                      order withdrawn or done
--   U effect                      an attempt's start that nobody may have begun, or the step is refused
--   D ticket unixtime|""          deadline set or cleared
--   C ticket                      ticket cancelled: no effect of it may begin any more
--   K source cursor               inbound stream read up to here; the part before is trimmed
--   Q bytes                       quarantined
--   H name                        the store's history that the shard belongs to
-- Answers "OK", "EPOCH" (somebody else owns the shard now), "VERSION <ticket>" or "BEGUN <effect>".
local width = {V = 4, L = 2, O = 2, X = 1, U = 1, D = 2, C = 1, K = 2, Q = 1, H = 1}
local p = ARGV[1]
if redis.call('GET', KEYS[1]) ~= ARGV[2] then return 'EPOCH' end
local i = 3
while i <= #ARGV do
  if ARGV[i] == 'V' then
    local now = redis.call('HGET', p .. ':ver', ARGV[i + 1]) or '0'
    if now ~= ARGV[i + 2] then return 'VERSION ' .. ARGV[i + 1] end
  elseif ARGV[i] == 'U' then
    if redis.call('HEXISTS', p .. ':begun:agents', ARGV[i + 1]) == 1 then return 'BEGUN ' .. ARGV[i + 1] end
  end
  i = i + 1 + width[ARGV[i]]
end
i = 3
while i <= #ARGV do
  local op, a, b, c, d = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  if op == 'V' then
    redis.call('HSET', p .. ':ver', a, c)
    redis.call('HSET', p .. ':view', a, d)
  elseif op == 'L' then
    redis.call('XADD', p .. ':log:' .. a, '*', 'e', b)
  elseif op == 'O' then
    redis.call('HSET', p .. ':outbox', a, b)
  elseif op == 'X' then
    redis.call('HDEL', p .. ':outbox', a)
  elseif op == 'D' then
    if b == '' then redis.call('ZREM', p .. ':deadlines', a) else redis.call('ZADD', p .. ':deadlines', b, a) end
  elseif op == 'C' then
    redis.call('SADD', p .. ':cancelled', a)
  elseif op == 'K' then
    redis.call('HSET', p .. ':cursor', a, b)
    redis.call('XTRIM', p .. ':in:' .. a, 'MINID', '~', b)
  elseif op == 'Q' then
    redis.call('XADD', p .. ':quarantine', 'MAXLEN', '~', '10000', '*', 'e', a)
  elseif op == 'H' then
    redis.call('SET', p .. ':history', a)
  end
  i = i + 1 + width[op]
end
return 'OK'
