// What the store carries out by itself, so that a decision is one round trip and nothing comes in between. Lua 5.1, for Redis 6
// and later and for Valkey. Everything goes by the store's clock, in whole milliseconds.
//
//   NS:{H}:b  string "FULL_AT FILL_RATE": a client's token bucket, as state/token-bucket.ts keeps it. H is the hash of its name
//   NS:{H}:o  hash: "n:NODE" to "INCARNATION SEQUENCE COUNT EXPIRES", and "client" to the beginning of the client's name
//   NS:nodes  hash: NODE to "INCARNATION EXPIRES"
//   NS:blocks hash: SUBJECT to "VERSION EXPIRES DATA", and "" to the highest version
//
// A node writes its own counts, and only whole: what the last message says holds, whatever became of those before. A message
// that is older than what is stored (it waited in a store that was stopped) changes nothing. A count of 0 is kept until it expires
// for that reason. Numbers are written with %.0f: Lua's own way loses digits above 10^14.

import { hash } from "node:crypto";

export interface Script {
  readonly text: string;
  readonly sha: string;
}

function script(...parts: string[]): Script {
  const text = parts.join("\n");
  return { text, sha: hash("sha1", text) };
}

const CLOCK = `
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local function whole(number) return string.format('%.0f', number) end
`;

/** `merge`: milliseconds until the bucket is full, as far as the node knows from a time without the store; the later one counts. Answers when the bucket is full, and whether that has to be written. */
const BUCKET = `
local function bucket(key, capacity, fill, merge)
  local full, moved = now, merge > 0
  local at, rate = string.match(redis.call('GET', key) or '', '^(%d+) (%d+)$')
  at, rate = tonumber(at), tonumber(rate)
  if at and at > now then
    if rate ~= fill then at, moved = now + math.ceil((at - now) * fill / rate), true end
    full = at
  end
  full = math.max(full, now + merge)
  local most = now + capacity * fill
  return math.min(full, most), moved or full > most
end
local function keep(key, full, fill)
  if full > now then redis.call('SET', key, whole(full) .. ' ' .. whole(fill), 'PX', whole(full - now))
  else redis.call('DEL', key) end
end
`;

const COUNT = `
local function count(key, node, incarnation, sequence, number, lease, client)
  local value = incarnation .. ' ' .. whole(sequence) .. ' ' .. whole(number) .. ' ' .. whole(now + lease)
  redis.call('HSET', key, 'n:' .. node, value, 'client', client)
  if redis.call('PTTL', key) < lease then redis.call('PEXPIRE', key, whole(lease)) end
end
`;

/**
 * Decides on some connections of one client at once.
 * KEYS: bucket, counts. ARGV: node, incarnation, client, and in one word, which is quicker to send, eight numbers: sequence,
 * connections that the node has, connections asked for, capacity or 0, fill rate, maxConnections or 0, lease, merge.
 * Answers [granted, why not more, the clock, milliseconds until the bucket is full], or ["stale"].
 */
export const DECIDE = script(
  CLOCK,
  BUCKET,
  COUNT,
  `
local node, incarnation, client = ARGV[1], ARGV[2], ARGV[3]
local numbers = {}
for word in string.gmatch(ARGV[4], '%d+') do numbers[#numbers + 1] = tonumber(word) end
local sequence, base, asked, capacity, fill, most, lease, merge = unpack(numbers)
local others, known = 0, false
local all = redis.call('HGETALL', KEYS[2])
for i = 1, #all, 2 do
  local field = all[i]
  if string.sub(field, 1, 2) == 'n:' then
    local who, seq, number, expires = string.match(all[i + 1], '^(%S+) (%d+) (%d+) (%d+)$')
    if field == 'n:' .. node then
      known = true
      if who == incarnation and tonumber(seq) >= sequence then return {'stale'} end
    elseif expires == nil or tonumber(expires) <= now then redis.call('HDEL', KEYS[2], field)
    else others = others + tonumber(number) end
  end
end
local room, tokens, full, moved = asked, asked, now, false
if most > 0 then room = math.max(0, most - others - base) end
if capacity > 0 then
  full, moved = bucket(KEYS[1], capacity, fill, merge)
  tokens = math.floor((capacity * fill - (full - now)) / fill)
end
local granted = math.min(asked, room, tokens)
if capacity > 0 and (granted > 0 or moved) then
  full = full + granted * fill
  keep(KEYS[1], full, fill)
end
if known or base + granted > 0 then
  count(KEYS[2], node, incarnation, sequence, base + granted, lease, client)
end
local why = most > 0 and granted >= room and 'connection_limit' or 'rate_limited'
return {granted, why, whole(now), whole(full - now)}`,
);

/**
 * Writes the counts of some clients, and merges their buckets.
 * KEYS: bucket and counts of each client. ARGV: node, incarnation, sequence, lease, then for each client: count, capacity or 0,
 * fill rate, merge, tokens that come back, client. Answers one line for each client whose keys hold something else.
 */
export const PUBLISH = script(
  CLOCK,
  BUCKET,
  COUNT,
  `
local node, incarnation, sequence, lease = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local faults = {}
local function publish(bucketKey, countKey, number, capacity, fill, merge, back, client)
  local is = redis.call('TYPE', countKey).ok
  if is ~= 'hash' and is ~= 'none' then faults[#faults + 1] = countKey return end
  local who, seq = string.match(redis.call('HGET', countKey, 'n:' .. node) or '', '^(%S+) (%d+) ')
  if who == incarnation and tonumber(seq) >= sequence then return end
  if number > 0 or who then count(countKey, node, incarnation, sequence, number, lease, client) end
  if capacity > 0 and (merge > 0 or back > 0) then
    is = redis.call('TYPE', bucketKey).ok
    if is ~= 'string' and is ~= 'none' then faults[#faults + 1] = bucketKey return end
    keep(bucketKey, bucket(bucketKey, capacity, fill, merge) - back * fill, fill)
  end
end
for i = 1, #KEYS / 2 do
  local a = 4 + (i - 1) * 6
  publish(KEYS[2 * i - 1], KEYS[2 * i], tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3]),
    tonumber(ARGV[a + 4]), tonumber(ARGV[a + 5]), ARGV[a + 6])
end
return faults`,
);

/**
 * A node says that it lives.
 * KEYS: nodes, blocks. ARGV: node, incarnation, lease. Answers ["known" | "new" | "taken", the highest version of the blocks,
 * the names of all living nodes …]. "taken": another node has the name; then nothing was written.
 */
export const BEAT = script(
  CLOCK,
  `
local node, incarnation, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])
local who, expires = string.match(redis.call('HGET', KEYS[1], node) or '', '^(%S+) (%d+)$')
local status = who == incarnation and 'known' or 'new'
if who and who ~= incarnation and tonumber(expires) > now then status = 'taken'
else
  redis.call('HSET', KEYS[1], node, incarnation .. ' ' .. whole(now + lease))
  if redis.call('PTTL', KEYS[1]) < lease then redis.call('PEXPIRE', KEYS[1], whole(lease)) end
end
local answer = {status, redis.call('HGET', KEYS[2], '') or '0'}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local untilThen = string.match(all[i + 1], ' (%d+)$')
  if untilThen and tonumber(untilThen) > now then answer[#answer + 1] = all[i]
  else redis.call('HDEL', KEYS[1], all[i]) end
end
return answer`,
);

/** A node goes. KEYS: nodes. ARGV: node, incarnation. */
export const LEAVE = script(`
local who = string.match(redis.call('HGET', KEYS[1], ARGV[1]) or '', '^(%S+) ')
if who == ARGV[2] then redis.call('HDEL', KEYS[1], ARGV[1]) end
return 1`);

/**
 * Records a change of the blocks, under a version that is higher than any before: the time, or one more than the highest, so that a
 * later change wins also where the store was emptied in between.
 * KEYS: blocks. ARGV: subject, data or "" where the block is taken back, milliseconds that it is kept or 0 for ever, the highest version that the
 * node knows. Answers the version.
 */
export const BLOCK = script(
  CLOCK,
  `
local version = math.max(tonumber(redis.call('HGET', KEYS[1], '') or '0') + 1, tonumber(ARGV[4]) + 1, now)
local lasting = tonumber(ARGV[3])
local expires = lasting == 0 and 0 or now + lasting
redis.call('HSET', KEYS[1], '', whole(version), ARGV[1], whole(version) .. ' ' .. whole(expires) .. ' ' .. ARGV[2])
return whole(version)`,
);

/**
 * Writes a change that the store has forgotten, under the version that it had. What is later stays.
 * The highest version grows all the same: by it nodes notice that there is something to fetch.
 * KEYS: blocks. ARGV: subject, data or "" where the block is taken back, milliseconds that it is kept or 0 for ever, its version.
 * Answers the highest version.
 */
export const RESTORE = script(
  CLOCK,
  `
local top, version = tonumber(redis.call('HGET', KEYS[1], '') or '0'), tonumber(ARGV[4])
local stored = string.match(redis.call('HGET', KEYS[1], ARGV[1]) or '', '^(%d+) ')
if stored and tonumber(stored) >= version then return whole(top) end
local lasting = tonumber(ARGV[3])
local expires = lasting == 0 and 0 or now + lasting
top = math.max(top + 1, version + 1, now)
redis.call('HSET', KEYS[1], '', whole(top), ARGV[1], whole(version) .. ' ' .. whole(expires) .. ' ' .. ARGV[2])
return whole(top)`,
);

/**
 * All blocks, without those that have expired.
 * KEYS: blocks. Answers [the highest version, then for each: subject, version, milliseconds left or 0 for ever, data].
 */
export const BLOCKS = script(
  CLOCK,
  `
local answer = {redis.call('HGET', KEYS[1], '') or '0'}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if all[i] ~= '' then
    local version, expires, data = string.match(all[i + 1], '^(%d+) (%d+) (.*)$')
    expires = tonumber(expires)
    if expires ~= nil and expires ~= 0 and expires <= now then redis.call('HDEL', KEYS[1], all[i])
    elseif expires ~= nil then
      answer[#answer + 1] = all[i]
      answer[#answer + 1] = version
      answer[#answer + 1] = whole(expires == 0 and 0 or expires - now)
      answer[#answer + 1] = data
    end
  end
end
return answer`,
);
