-- Takes or renews the lease of a shard. KEYS[1] = <prefix>:owner, KEYS[2] = <prefix>:epoch. ARGV = member, lease in ms.
-- Answers {epoch, 1} when newly taken (the epoch was raised), {epoch, 0} when renewed, {0, 0} when somebody else has it.
local owner = redis.call('GET', KEYS[1])
if owner == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return {tonumber(redis.call('GET', KEYS[2]) or '0'), 0}
end
if owner then return {0, 0} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if redis.call('EXISTS', KEYS[2]) == 0 then
  -- The epochs of a ledger that was lost are not given again: a frozen owner of that one may come back.
  local now = redis.call('TIME')
  redis.call('SET', KEYS[2], now[1] .. string.format('%06d', now[2]))
end
return {redis.call('INCR', KEYS[2]), 1}
