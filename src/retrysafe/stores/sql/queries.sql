-- The statements that are the same in every SQL database, by name; what one has to word by itself is in its own file.
-- `$columns`, `$leased` and the like are filled in from `protocol/states.py` and `stores/rows.py`, so that each write
-- leaves only the states that it may leave; `$digest` is a parameter, as the database takes digests.
-- A write proves its right: it compares digest, operation and fence (C4).

-- name: begin
INSERT INTO retrysafe_checkpoint (
    digest, fence, state, mode, attempt, deaths, lease_until, due_at, created_at, tombstone_until,
    operation_id, attempt_id, name, namespace, principal, key_hint, fingerprint, request, version
)
VALUES ($digest, 1, 'running', ?, 1, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (digest) DO NOTHING

-- name: read
SELECT $columns FROM retrysafe_checkpoint WHERE digest = $digest

-- name: forget
DELETE FROM retrysafe_checkpoint
WHERE digest = $digest AND operation_id = ? AND fence = ? AND $purgeable AND tombstone_until <= ?

-- name: take
UPDATE retrysafe_checkpoint
SET state = 'running', fence = fence + 1, attempt = attempt + 1, deaths = ?, attempt_id = ?, lease_until = ?,
    due_at = ?, mode = ?, name = ?, tombstone_until = ?, request = ?, reason = NULL, next_hint_at = 0
WHERE digest = $digest AND operation_id = ? AND fence = ? AND $before_running

-- name: take_to_undo
UPDATE retrysafe_checkpoint
SET state = 'undoing', undoing = 1, fence = fence + 1, attempt = attempt + 1, deaths = ?, attempt_id = ?,
    lease_until = ?, due_at = ?, mode = ?, name = ?, tombstone_until = ?, request = ?, next_hint_at = 0
WHERE digest = $digest AND operation_id = ? AND fence = ? AND $before_undoing

-- name: park_abandoned
UPDATE retrysafe_checkpoint
SET state = 'parked', deaths = deaths + 1, attempt_id = ?, reason = ?
WHERE digest = $digest AND operation_id = ? AND fence = ? AND $before_parked

-- name: record
UPDATE retrysafe_checkpoint
SET state = 'done', finished_at = ?, outcome_until = ?, tombstone_until = ?, outcome = ?, request = NULL, reason = NULL
WHERE digest = $digest AND operation_id = ? AND fence = ? AND $before_done AND undoing = 0

-- name: record_undone
UPDATE retrysafe_checkpoint
SET state = 'undone', finished_at = ?, outcome_until = ?, tombstone_until = ?, outcome = ?, request = NULL,
    reason = NULL
WHERE digest = $digest AND operation_id = ? AND fence = ? AND $before_undone

-- name: postpone
UPDATE retrysafe_checkpoint
SET lease_until = ?, due_at = ?, reason = ?, next_hint_at = 0
WHERE digest = $digest AND operation_id = ? AND fence = ? AND $leased

-- name: begin_undo
UPDATE retrysafe_checkpoint
SET state = 'undoing', undoing = 1, deaths = 0, reason = ?, outcome = ?
WHERE digest = $digest AND operation_id = ? AND fence = ? AND state = 'running'

-- name: memos
SELECT $memo_columns FROM retrysafe_step WHERE operation_id = ? ORDER BY seq

-- name: memo
SELECT $memo_columns FROM retrysafe_step WHERE operation_id = ? AND name = ? AND idx = ?

-- name: count_message
UPDATE retrysafe_checkpoint SET messages = messages + 1 WHERE digest = $digest AND operation_id = ? AND fence = ?

-- name: sent_message
DELETE FROM retrysafe_outbox WHERE operation_id = ? AND number = ?

-- name: note_hint
UPDATE retrysafe_checkpoint SET next_hint_at = ? WHERE digest = $digest AND operation_id = ? AND fence = ?

-- name: bring
UPDATE retrysafe_checkpoint
SET state = ?, fence = fence + 1, lease_until = ?, due_at = ?, undoing = ?, outcome = ?, request = ?, finished_at = ?,
    outcome_until = ?, tombstone_until = ?, deaths = ?, reason = NULL, next_hint_at = 0
WHERE digest = $digest AND operation_id = ? AND fence = ?

-- name: append_audit
INSERT INTO retrysafe_audit (at, operation_id, verb, by, note, state_before, state_after, fence_after)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)

-- name: audit
SELECT number, at, operation_id, verb, by, note, state_before, state_after, fence_after
FROM retrysafe_audit ORDER BY number DESC LIMIT ?

-- name: audit_of
SELECT number, at, operation_id, verb, by, note, state_before, state_after, fence_after
FROM retrysafe_audit WHERE operation_id = ? ORDER BY number DESC LIMIT ?

-- name: begin_stream
UPDATE retrysafe_checkpoint
SET state = 'streaming'
WHERE digest = $digest AND operation_id = ? AND fence = ? AND $before_streaming

-- name: release
UPDATE retrysafe_checkpoint
SET state = 'released', request = NULL
WHERE digest = $digest AND operation_id = ? AND fence = ? AND $before_released

-- name: park
UPDATE retrysafe_checkpoint
SET state = 'parked', reason = ?
WHERE digest = $digest AND operation_id = ? AND fence = ? AND $before_parked

-- name: hand_over
WITH held (digest, operation_id, fence, lease_until) AS (VALUES $claims)
UPDATE retrysafe_checkpoint AS met
SET lease_until = held.lease_until, due_at = due_at + (held.lease_until - met.lease_until)
FROM held
WHERE met.digest = held.digest AND met.operation_id = held.operation_id AND met.fence = held.fence
    AND $leased AND met.lease_until > held.lease_until

-- name: abandoned
SELECT $columns FROM retrysafe_checkpoint
WHERE $leased AND lease_until <= ? AND due_at <= ?
ORDER BY lease_until, number
LIMIT ?

-- name: purge_last
SELECT coalesce(max(number), 0) FROM retrysafe_checkpoint

-- name: purge_window
SELECT max(number), count(*)
FROM (SELECT number FROM retrysafe_checkpoint WHERE number > ? ORDER BY number LIMIT ?) AS stretch

-- name: listing
SELECT $listed FROM retrysafe_checkpoint WHERE $conditions ORDER BY number DESC LIMIT ?

-- name: is_abandoned
number IN (SELECT number FROM retrysafe_checkpoint WHERE $leased AND lease_until <= ?)

-- name: is_behind
number < (SELECT number FROM retrysafe_checkpoint WHERE operation_id = ? ORDER BY number DESC LIMIT 1)
