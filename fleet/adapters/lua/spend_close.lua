-- Closes the reservations of gateways that died: those whose call must be over by the store's own clock, never earlier.
-- Nobody can say any more what such a call used, and its provider may bill all of it: it counts as spent in full.
-- KEYS = hash of open reservations, and when each must be over
-- ARGV = what the keys of the sums begin with, how many at most
-- Answers how many were closed.
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local closed = 0
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, ARGV[2])) do
  local raw = redis.call('HGET', KEYS[1], id)
  redis.call('ZREM', KEYS[2], id)
  if raw then
    local one = cjson.decode(raw)
    local micros, tokens = string.format('%d', one.micros), string.format('%d', one.tokens)
    local ticket = ARGV[1] .. 'ticket:' .. one.ticket
    for _, prefix in ipairs({'', string.format('%d:', one.attempt)}) do
      redis.call('HINCRBY', ticket, prefix .. 'reserved', '-' .. micros)
      redis.call('HINCRBY', ticket, prefix .. 'micros', micros)
    end
    redis.call('HINCRBY', ticket, 'held', '-' .. tokens)
    redis.call('HINCRBY', ticket, 'tokens', tokens)
    local day = ARGV[1] .. 'day:' .. one.day
    local tenant = ARGV[1] .. 'tenant:' .. one.tenant .. ':' .. one.day
    local month = ARGV[1] .. 'month:' .. string.sub(one.day, 1, 7)
    for _, level in ipairs({tenant, day, month}) do
      redis.call('HINCRBY', level, 'reserved', '-' .. micros)
      redis.call('HINCRBY', level, 'micros', micros)
    end
    redis.call('HDEL', KEYS[1], id)
    closed = closed + 1
  end
end
return closed
