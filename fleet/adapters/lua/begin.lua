-- Begins an effect: single-use for ever, refused once the ticket is cancelled or the order withdrawn.
-- KEYS[1] = <prefix>:begun:<role>, KEYS[2] = <prefix>:outbox, KEYS[3] = <prefix>:cancelled
-- ARGV = effect id, ticket, owner, "1" when the effect may begin again and after a cancel (compensations)
-- Answers 1 (yours) or 0. The same owner asking again is told 1: its first answer may have been lost on the wire.
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 0 then return 0 end
if ARGV[4] == '1' then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
  return 1
end
local owner = redis.call('HGET', KEYS[1], ARGV[1])
if owner then return owner == ARGV[3] and 1 or 0 end
if redis.call('SISMEMBER', KEYS[3], ARGV[2]) == 1 then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
