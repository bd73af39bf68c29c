-- Makes all writes to the log of an agent. log.py describes each call and the order of the checks.
-- All numbers called `us` are microseconds of this server's clock; entry ids are derived from them.
local live, stream, ends, started, ended, terms, messages, bell, dead = unpack(KEYS)
local op, uid, who = ARGV[1], ARGV[2], ARGV[3]
local floor, retention, retention_bytes, ttl = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local REMEMBERED_TASKS, REMEMBERED_TERMS, BELL_LENGTH = 1000, 32, 1000
local MESSAGES, MESSAGES_BYTES = 1000, 4 * 1024 * 1024
local ENTRY_OVERHEAD = 128 -- bytes of a stream's entry besides its fields, at most: measured for Valkey 9.1
local BATCH = 16 -- entries that are read at once: they may be 256 KiB long
local DAY = 86400

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local function whole(us) return string.format('%.0f', us) end
local function id_of(us) return whole((us - us % 1000) / 1000) .. '-' .. whole(us % 1000) end
local function notify() redis.call('XADD', bell, 'MAXLEN', '~', BELL_LENGTH, '*', 'k', who) end
-- A whole number that a double holds exactly; 0 for anything else.
local function to_number(value)
  return type(value) == 'string' and #value <= 16 and string.match(value, '^%d+$') and tonumber(value) or 0
end
local function number(field) return to_number(redis.call('HGET', live, field)) end

-- All keys of an agent expire at the same moment, so that none is missing while others exist. The moment is moved at
-- most once a day, because each move is written to the append-only file; it is moved at once if a key may be new.
local function keep(has_new_keys)
  local wanted = time[1] + ttl
  if not has_new_keys and number('until') > wanted - DAY then return end
  redis.call('HSET', live, 'until', wanted)
  for i = 1, 7 do redis.call('EXPIREAT', KEYS[i], wanted) end
end

-- Stores a tombstone of a deleted agent's uid, so that its calls are refused, and drops expired tombstones.
local function purge(name, last)
  redis.call('ZADD', dead, whole(math.max(now, last)), name)
  redis.call('ZREMRANGEBYSCORE', dead, '-inf', whole(now - ttl * 1000000))
end

-- If the status knows a newer event than this log, the log has lost its newest events. New ids continue after that
-- event.
local function catch_up()
  if floor > number('last') then redis.call('HSET', live, 'last', whole(floor), 'lost', whole(floor)) end
end

-- Assigns the log to this uid. Returns false if the agent with this uid was deleted. Ids keep increasing beyond all
-- known ids.
local function enter()
  if redis.call('ZSCORE', dead, uid) then return false end
  local holder = redis.call('HGET', live, 'uid')
  if holder == uid then
    catch_up()
    return true
  end
  local last = number('last')
  if holder then purge(holder, last) end
  for i = 1, 7 do redis.call('DEL', KEYS[i]) end
  local newest = redis.call('ZREVRANGE', dead, 0, 0, 'WITHSCORES')[2]
  local born = whole(math.max(now, last, floor, to_number(newest)))
  redis.call('HSET', live, 'uid', uid, 'born', born, 'last', born, 'term', 0, 'gen', 0)
  if floor > 0 then redis.call('HSET', live, 'lost', born) end
  keep(true)
  notify()
  return true
end

-- Returns task and position of the last message to the newest task; an empty task if there is none.
local function newest_message()
  local found = redis.call('XREVRANGE', messages, '+', '-', 'COUNT', 1)[1]
  if not found then return { '', 0 } end
  local ms, us = string.match(found[1], '(%d+)-(%d+)')
  return { found[2][2], ms * 1000 + us }
end

-- Returns whether an end arrives before all messages to its task were answered. `acked` is the position of the last
-- message that the model has answered; it is empty for an end that is accepted in any case.
local function has_unanswered_message(task, acked)
  if acked == '' then return false end
  local newest = newest_message()
  return newest[1] == task and newest[2] > to_number(acked)
end

local function size_of(entry)
  local size = ENTRY_OVERHEAD
  for _, part in ipairs(entry[2]) do size = size + #part end
  return size
end

-- Drops the entries up to and including the one with this id, and records that they are gone.
local function drop(id)
  local ms, sequence = string.match(id, '(%d+)-(%d+)')
  redis.call('HSET', live, 'lost', whole(ms * 1000 + math.min(sequence, 999)))
  redis.call('XTRIM', stream, 'MINID', ms .. '-' .. whole(sequence + 1))
end

-- Counts the bytes of a stream from its newest entry on. Where they reach the limit, the older entries are dropped.
local function counted()
  local bytes, length, stop = 0, 0, '+'
  while true do
    local batch = redis.call('XREVRANGE', stream, stop, '-', 'COUNT', BATCH)
    for _, entry in ipairs(batch) do
      local size = size_of(entry)
      if length > 0 and bytes + size > retention_bytes then
        drop(entry[1])
        return bytes
      end
      bytes, length, stop = bytes + size, length + 1, '(' .. entry[1]
    end
    if #batch < BATCH then return bytes end
  end
end

-- Writes one event. `state` collects its changes of the live state, which are written by one HSET.
local function write(state, i)
  local kind, task, name, payload = ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 5]
  state.last = math.max(state.now, state.last + 1)
  local id = id_of(state.last)
  redis.call('XADD', stream, id, 't', name, 'p', payload)
  state.bytes = state.bytes + ENTRY_OVERHEAD + #name + #payload + 2 -- the same as `size_of` of the entry
  if kind == 'start' then
    redis.call('ZADD', started, whole(state.last), task)
    redis.call('DEL', messages)
  end
  if kind == 'end' then
    redis.call('XADD', ends, id, 't', name, 'p', payload)
    redis.call('ZADD', ended, whole(state.last), task)
  end
  if ARGV[i + 4] ~= '' then state.gen = math.max(state.gen, tonumber(ARGV[i + 4])) end
  if kind == 'end' and state.task ~= task and state.task ~= '' and state.ended == '0' then return end
  -- A compaction keeps the status Compacting until its end, whatever its events are.
  local is_compacting = state.task == task and state.status == 'Compacting' and kind ~= 'end'
  state.task, state.ended = task, kind == 'end' and '1' or '0'
  state.status, state.outcome = is_compacting and 'Compacting' or ARGV[i + 7], ARGV[i + 8]
  if ARGV[i + 6] ~= '' then state.message = ARGV[i + 6] end
  if ARGV[i + 9] ~= '' then state.session = ARGV[i + 9] end
end

-- Returns the earliest position of a new event. No event of any agent gets an id from before the last notification,
-- even if the clock was set back. Readers of all logs rely on this (follow/cursors.py).
local function not_before()
  local last = redis.call('XREVRANGE', bell, '+', '-', 'COUNT', 1)[1]
  return last and math.max(now, string.match(last[1], '%d+') * 1000) or now
end

local function read_state()
  catch_up()
  local f = redis.call('HMGET', live, 'last', 'gen', 'task', 'ended', 'status', 'outcome', 'message', 'session', 'bytes')
  -- `bytes` contains the position of the last event that it counts. It is outdated if a release that does not count
  -- has written since; then the bytes are counted again.
  local bytes, upto = string.match(f[9] or '', '^(%d+)@(%d+)$')
  return {
    now = not_before(),
    last = to_number(f[1]), gen = to_number(f[2]), task = f[3] or '', ended = f[4] or '1',
    status = f[5] or '', outcome = f[6] or '', message = f[7] or '', session = f[8] or '',
    bytes = upto == f[1] and to_number(bytes) or counted(),
  }
end

-- Drops the oldest entries beyond `retention` entries or `retention_bytes`, but never the newest one. Ends that the
-- status does not account for yet are kept in a stream of their own.
local function trim(state)
  local length, start, gone, batch = redis.call('XLEN', stream), '-', nil, 0.5
  local function is_too_much() return length > 1 and (length > retention or state.bytes > retention_bytes) end
  while is_too_much() do
    batch = math.min(BATCH, math.max(2 * batch, length - retention))
    for _, entry in ipairs(redis.call('XRANGE', stream, start, '+', 'COUNT', batch)) do
      if not is_too_much() then break end
      length, state.bytes, gone = length - 1, state.bytes - size_of(entry), entry[1]
      start = '(' .. gone
    end
  end
  if gone then drop(gone) end
end

-- Completes a call that has written events: retention, live state, expiry, notification. A task that is dropped from
-- `ended` is dropped from `started` too: otherwise it would be open again.
local function settle(state, has_new_keys)
  trim(state)
  redis.call('HSET', live, 'last', whole(state.last), 'gen', whole(state.gen), 'task', state.task, 'ended', state.ended,
    'status', state.status, 'outcome', state.outcome, 'message', state.message, 'session', state.session,
    'bytes', whole(state.bytes) .. '@' .. whole(state.last))
  if has_new_keys then
    for _, task in ipairs(redis.call('ZRANGE', ended, 0, -REMEMBERED_TASKS - 1)) do
      redis.call('ZREM', ended, task)
      redis.call('ZREM', started, task)
    end
    redis.call('ZREMRANGEBYRANK', started, 0, -REMEMBERED_TASKS - 1)
  end
  keep(has_new_keys or redis.call('XLEN', stream) == 1)
  notify()
end

local calls = {}

-- ARGV: old term, then the tasks asked about. Returns: term, taken, started, ended, open.
function calls.hello()
  if not enter() then return { 'fenced' } end
  local old = to_number(ARGV[8])
  local term = whole(math.max(now, number('term') + 1, old + 1))
  local taken = to_number(redis.call('HGET', terms, ARGV[8]))
  redis.call('HSET', terms, term, 0)
  redis.call('HSET', live, 'term', term, 'seen', whole(now))
  local known = redis.call('HKEYS', terms)
  table.sort(known, function(a, b) return to_number(a) > to_number(b) end)
  for i = REMEMBERED_TERMS + 1, #known do redis.call('HDEL', terms, known[i]) end
  local was_started, was_ended = {}, {}
  for i = 9, #ARGV do
    if redis.call('ZSCORE', started, ARGV[i]) then was_started[#was_started + 1] = ARGV[i] end
    if redis.call('ZSCORE', ended, ARGV[i]) then was_ended[#was_ended + 1] = ARGV[i] end
  end
  keep(true)
  return { 'ok', term, taken, was_started, was_ended, redis.call('ZDIFF', 2, started, ended) }
end

-- ARGV: term, then eleven fields for each event. Returns the answers in order, none after the first refusal.
function calls.append()
  local term, held = ARGV[8], redis.call('HMGET', live, 'uid', 'term')
  if held[1] ~= uid or held[2] ~= term or term == '0' then return { 'fenced' } end
  local taken, state, answers, writes, has_new_keys = to_number(redis.call('HGET', terms, term)), nil, {}, 0, false
  for i = 9, #ARGV, 11 do
    local n, kind, task, generation = tonumber(ARGV[i]), ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 4])
    state = state or read_state()
    local answer = 'ok'
    if n <= taken then answer = 'duplicate'
    elseif n ~= taken + 1 then answer = 'gap'
    elseif redis.call('ZSCORE', ended, task) then answer = 'ended'
    elseif kind == 'start' and redis.call('ZSCORE', started, task) then answer = 'started'
    elseif kind == 'start' and generation and generation < state.gen then answer = 'stale'
    elseif kind == 'end' and has_unanswered_message(task, ARGV[i + 10]) then answer = 'unacknowledged'
    else
      write(state, i)
      taken, writes, has_new_keys = n, writes + 1, has_new_keys or kind ~= ''
    end
    answers[#answers + 1] = answer
    if answer ~= 'ok' and answer ~= 'duplicate' then break end
  end
  -- Written even if there is no new event: WAITAOF waits for the last write of this connection, so that the answer to
  -- a duplicate waits for the disk too.
  redis.call('HSET', live, 'seen', whole(now))
  if writes > 0 then
    redis.call('HSET', terms, term, taken)
    settle(state, has_new_keys)
  end
  return answers
end

-- ARGV: '1' to refuse a task that has started, then the eleven fields. Called by the operator: no term, no number.
calls['end'] = function()
  if not enter() then return { 'fenced' } end
  local task = ARGV[11]
  redis.call('HSET', live, 'uid', uid) -- so that an answer without effect waits for the disk too
  if redis.call('ZSCORE', ended, task) then return { 'ended' } end
  if ARGV[8] == '1' and redis.call('ZSCORE', started, task) then return { 'started' } end
  local state = read_state()
  write(state, 9)
  settle(state, true)
  return { 'ok' }
end

-- ARGV: the eleven fields, then the request's id or ''. Called for users and managers: no term, no number. Creates no
-- log. A repeated request gets the first answer, also after the end of the task.
function calls.message()
  local held, task, request, bytes = redis.call('HGET', live, 'uid'), ARGV[10], ARGV[19], 0
  if held ~= uid then return { 'ended' } end
  local before = redis.call('XRANGE', messages, '-', '+')
  for _, said in ipairs(before) do
    if request ~= '' and said[2][6] == request then return { 'ok', said[1], said[2][2] } end
    bytes = bytes + size_of(said)
  end
  if redis.call('ZSCORE', ended, task) or not redis.call('ZSCORE', started, task) then return { 'ended' } end
  local state = read_state()
  if state.task ~= task or state.ended ~= '0' then return { 'ended' } end
  if #before >= MESSAGES or bytes + #ARGV[13] > MESSAGES_BYTES then return { 'full' } end
  write(state, 8)
  local id = id_of(state.last)
  redis.call('XADD', messages, id, 't', task, 'p', ARGV[13], 'r', request)
  settle(state, true)
  return { 'ok', id, task }
end

-- ARGV: term (0: the newest, and no sign of life is recorded), then the tasks asked about. Creates no log. Returns
-- term 0 if there is no log, or if it belongs to another uid.
function calls.pulse()
  local held = redis.call('HMGET', live, 'uid', 'term')
  if held[1] ~= uid then return { '0', 0, {} } end
  if held[2] == ARGV[8] then redis.call('HSET', live, 'seen', whole(now)) end
  local was_ended = {}
  for i = 9, #ARGV do
    if redis.call('ZSCORE', ended, ARGV[i]) then was_ended[#was_ended + 1] = ARGV[i] end
  end
  local spoken_of = ARGV[8] == '0' and held[2] or ARGV[8]
  return { held[2], to_number(redis.call('HGET', terms, spoken_of)), was_ended }
end

-- ARGV: the id up to which ends are accounted.
function calls.trim()
  if redis.call('HGET', live, 'uid') ~= uid then return 0 end
  local us = tonumber(ARGV[8])
  return redis.call('XTRIM', ends, 'MINID', id_of(us + 1))
end

function calls.purge()
  local is_holder = redis.call('HGET', live, 'uid') == uid
  purge(uid, is_holder and number('last') or 0)
  if is_holder then
    for i = 1, 7 do redis.call('DEL', KEYS[i]) end
    notify()
  end
  return is_holder and 1 or 0
end

return calls[op]()
