-- One step of the admission entity. KEYS[1] = fleet:{adm}:epoch. ARGV = epoch, then operations:
--   W field bytes   waiting request      w field   no longer waiting
--   G field bytes   grant                g field   grant returned
--   P field repo    open pull request    p field   closed
--   Y ticket text   why it waits         y ticket  cleared
--   K cursor        inbound stream read up to here
-- Answers "OK" or "EPOCH".
local width = {W = 2, w = 1, G = 2, g = 1, P = 2, p = 1, Y = 2, y = 1, K = 1}
local hash = {W = 'waiting', G = 'grants', P = 'prs', Y = 'why', w = 'waiting', g = 'grants', p = 'prs', y = 'why'}
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'EPOCH' end
local i = 2
while i <= #ARGV do
  local op = ARGV[i]
  if op == 'K' then
    redis.call('SET', 'fleet:{adm}:cursor', ARGV[i + 1])
    redis.call('XTRIM', 'fleet:{adm}:in', 'MINID', '~', ARGV[i + 1])
  elseif width[op] == 2 then
    redis.call('HSET', 'fleet:{adm}:' .. hash[op], ARGV[i + 1], ARGV[i + 2])
  else
    redis.call('HDEL', 'fleet:{adm}:' .. hash[op], ARGV[i + 1])
  end
  i = i + 1 + width[op]
end
return 'OK'
