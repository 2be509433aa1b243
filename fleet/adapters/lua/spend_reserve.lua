-- Sets the most that a call may cost aside, or refuses the call; nothing changes when it is refused.
-- KEYS[1] = the ticket's hash, KEYS[2] = the day's hash, KEYS[3] = hash of open reservations
-- ARGV = id, attempt, micros, tokens, ticket limit, calls limit, tokens limit, day limit, the reservation's record
-- Answers "" when reserved, else why not: calls, tokens, budget, day.
if redis.call('HEXISTS', KEYS[3], ARGV[1]) == 1 then return '' end
local function n(key, field) return tonumber(redis.call('HGET', key, field) or '0') end
local micros, tokens = tonumber(ARGV[3]), tonumber(ARGV[4])
if n(KEYS[1], 'calls') + 1 > tonumber(ARGV[6]) then return 'calls' end
if n(KEYS[1], 'tokens') + n(KEYS[1], 'held') + tokens > tonumber(ARGV[7]) then return 'tokens' end
if n(KEYS[1], 'micros') + n(KEYS[1], 'reserved') + micros > tonumber(ARGV[5]) then return 'budget' end
if n(KEYS[2], 'micros') + n(KEYS[2], 'reserved') + micros > tonumber(ARGV[8]) then return 'day' end
-- The call counts from now on: a crash after this line over-reserves and never over-spends.
for _, prefix in ipairs({'', ARGV[2] .. ':'}) do
  redis.call('HINCRBY', KEYS[1], prefix .. 'calls', 1)
  redis.call('HINCRBY', KEYS[1], prefix .. 'reserved', micros)
end
redis.call('HINCRBY', KEYS[1], 'held', tokens)
redis.call('HINCRBY', KEYS[2], 'calls', 1)
redis.call('HINCRBY', KEYS[2], 'reserved', micros)
redis.call('HSET', KEYS[3], ARGV[1], ARGV[9])
return ''
