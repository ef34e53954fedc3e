-- Every statement of the SQLite store, by name. `$columns`, `$leased` and the like are filled in from
-- `protocol/states.py` and `stores/rows.py`, so that each write leaves only the states that it may leave.
-- A write proves its right: it compares digest, operation and fence (C4).

-- name: begin
INSERT INTO retrysafe_checkpoint (
    digest, fence, state, mode, attempt, deaths, lease_until, due_at, created_at, tombstone_until,
    operation_id, attempt_id, name, namespace, principal, key_hint, fingerprint, request
)
VALUES (?, 1, 'running', ?, 1, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (digest) DO NOTHING

-- name: read
SELECT $columns FROM retrysafe_checkpoint WHERE digest = ?

-- name: forget
DELETE FROM retrysafe_checkpoint
WHERE digest = ? AND operation_id = ? AND fence = ? AND $purgeable AND tombstone_until <= ?

-- name: take
UPDATE retrysafe_checkpoint
SET state = 'running', fence = fence + 1, attempt = attempt + 1, deaths = ?, attempt_id = ?, lease_until = ?,
    due_at = ?, mode = ?, name = ?, tombstone_until = ?, request = ?, reason = NULL
WHERE digest = ? AND operation_id = ? AND fence = ? AND $before_running

-- name: park_abandoned
UPDATE retrysafe_checkpoint
SET state = 'parked', deaths = deaths + 1, attempt_id = ?, reason = ?
WHERE digest = ? AND operation_id = ? AND fence = ? AND $before_parked

-- name: record
UPDATE retrysafe_checkpoint
SET state = 'done', finished_at = ?, outcome_until = ?, tombstone_until = ?, outcome = ?, request = NULL, reason = NULL
WHERE digest = ? AND operation_id = ? AND fence = ? AND $before_done

-- name: begin_stream
UPDATE retrysafe_checkpoint
SET state = 'streaming'
WHERE digest = ? AND operation_id = ? AND fence = ? AND $before_streaming

-- name: release
UPDATE retrysafe_checkpoint
SET state = 'released', request = NULL
WHERE digest = ? AND operation_id = ? AND fence = ? AND $before_released

-- name: park
UPDATE retrysafe_checkpoint
SET state = 'parked', reason = ?
WHERE digest = ? AND operation_id = ? AND fence = ? AND $before_parked

-- name: renew
WITH held (digest, operation_id, fence, lease_until) AS (VALUES $claims)
UPDATE retrysafe_checkpoint AS met
SET lease_until = held.lease_until, due_at = due_at + (held.lease_until - met.lease_until)
FROM held
WHERE met.digest = held.digest AND met.operation_id = held.operation_id AND met.fence = held.fence
    AND $leased
RETURNING digest

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
FROM (SELECT number FROM retrysafe_checkpoint WHERE number > ? ORDER BY number LIMIT ?)

-- name: purge_due_at
SELECT min(
    CASE
        WHEN $before_expired THEN min(outcome_until, tombstone_until)
        WHEN $purgeable THEN tombstone_until
        ELSE ?
    END
)
FROM retrysafe_checkpoint
WHERE number > ? AND number <= ?

-- name: purge_tombstones
DELETE FROM retrysafe_checkpoint
WHERE number IN (
    SELECT number FROM retrysafe_checkpoint
    WHERE number > ? AND number <= ? AND $purgeable AND tombstone_until <= ?
    ORDER BY number LIMIT ?
)

-- name: purge_outcomes
UPDATE retrysafe_checkpoint
SET state = 'expired', outcome = NULL
WHERE number IN (
    SELECT number FROM retrysafe_checkpoint
    WHERE number > ? AND number <= ? AND $before_expired AND outcome_until <= ?
    ORDER BY number LIMIT ?
)

-- name: listing
SELECT $listed FROM retrysafe_checkpoint WHERE $conditions ORDER BY number DESC LIMIT ?

-- name: is_open
number IN (
    SELECT number FROM retrysafe_checkpoint WHERE $leased AND lease_until < 9e999
    UNION ALL
    SELECT number FROM retrysafe_checkpoint WHERE state = 'parked'
)

-- name: is_abandoned
number IN (SELECT number FROM retrysafe_checkpoint WHERE $leased AND lease_until <= ?)

-- name: operation_begins_with
substr(operation_id, 1, length(?)) = ?

-- name: is_behind
number < (SELECT number FROM retrysafe_checkpoint WHERE operation_id = ? ORDER BY number DESC LIMIT 1)

-- name: clock
SELECT clock_high, clock_offset FROM retrysafe_meta

-- name: set_clock
UPDATE retrysafe_meta SET clock_high = max(clock_high, ?), clock_offset = max(clock_offset, ?)
