-- Replaces a reservation by what the call really used. Settling twice changes nothing.
-- KEYS = the hashes of the ticket, of the tenant's day, of the home's day, of the fleet's month;
--        hash of open reservations, and when each must be over
-- ARGV = id, attempt, reserved micros, held tokens, micros, input, output, cached, "1" when the price is unknown
redis.call('ZREM', KEYS[6], ARGV[1])
if redis.call('HDEL', KEYS[5], ARGV[1]) == 0 then return 0 end
local reserved, used = tonumber(ARGV[3]), tonumber(ARGV[6]) + tonumber(ARGV[7]) + tonumber(ARGV[8])
for _, prefix in ipairs({'', ARGV[2] .. ':'}) do
  redis.call('HINCRBY', KEYS[1], prefix .. 'reserved', -reserved)
  redis.call('HINCRBY', KEYS[1], prefix .. 'micros', ARGV[5])
  redis.call('HINCRBY', KEYS[1], prefix .. 'input', ARGV[6])
  redis.call('HINCRBY', KEYS[1], prefix .. 'output', ARGV[7])
  redis.call('HINCRBY', KEYS[1], prefix .. 'cached', ARGV[8])
  redis.call('HINCRBY', KEYS[1], prefix .. 'unknown', ARGV[9])
end
redis.call('HINCRBY', KEYS[1], 'held', -tonumber(ARGV[4]))
redis.call('HINCRBY', KEYS[1], 'tokens', used)
for level = 2, 4 do
  redis.call('HINCRBY', KEYS[level], 'reserved', -reserved)
  redis.call('HINCRBY', KEYS[level], 'micros', ARGV[5])
end
return 1
