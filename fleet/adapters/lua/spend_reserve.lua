-- Sets the most that a call may cost aside, or refuses the call; nothing changes when it is refused.
-- KEYS = the hashes of the ticket, of the tenant's day, of the home's day, of the fleet's month;
--        hash of open reservations, and when each must be over (sorted by the store's clock)
-- ARGV = id, attempt, micros, tokens, ticket limit, calls limit, tokens limit, tenant limit, day limit, fleet limit,
--        soft limit of the ticket (below 0: none), seconds after which the call is over, the reservation's record
-- Answers "" when reserved, else why not: calls, tokens, soft, budget, fleet, day, tenant.
if redis.call('HEXISTS', KEYS[5], ARGV[1]) == 1 then return '' end
local function n(key, field) return tonumber(redis.call('HGET', key, field) or '0') end
local micros, tokens, soft = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[11])
local function over(key, limit) return n(key, 'micros') + n(key, 'reserved') + micros > tonumber(limit) end
if n(KEYS[1], 'calls') + 1 > tonumber(ARGV[6]) then return 'calls' end
if n(KEYS[1], 'tokens') + n(KEYS[1], 'held') + tokens > tonumber(ARGV[7]) then return 'tokens' end
if soft >= 0 and n(KEYS[1], 'micros') >= soft then return 'soft' end
if over(KEYS[1], ARGV[5]) then return 'budget' end
if over(KEYS[4], ARGV[10]) then return 'fleet' end
if over(KEYS[3], ARGV[9]) then return 'day' end
if over(KEYS[2], ARGV[8]) then return 'tenant' end
-- The call counts from now on: a crash after this line over-reserves and never over-spends.
for _, prefix in ipairs({'', ARGV[2] .. ':'}) do
  redis.call('HINCRBY', KEYS[1], prefix .. 'calls', 1)
  redis.call('HINCRBY', KEYS[1], prefix .. 'reserved', micros)
end
redis.call('HINCRBY', KEYS[1], 'held', tokens)
for level = 2, 4 do
  redis.call('HINCRBY', KEYS[level], 'calls', 1)
  redis.call('HINCRBY', KEYS[level], 'reserved', micros)
end
redis.call('HSET', KEYS[5], ARGV[1], ARGV[13])
local now = redis.call('TIME')
redis.call('ZADD', KEYS[6], tonumber(now[1]) + tonumber(now[2]) / 1000000 + tonumber(ARGV[12]), ARGV[1])
-- Sums of a day and of a month are looked at by people for a while; the limit only needs the newest.
redis.call('EXPIRE', KEYS[2], 7776000)
redis.call('EXPIRE', KEYS[3], 7776000)
redis.call('EXPIRE', KEYS[4], 34560000)
return ''
