-- What SQLite words by itself; the rest of its statements is in `stores/sql/queries.sql`.

-- name: lock
SELECT $columns FROM retrysafe_checkpoint WHERE digest = ?

-- name: claim
(?, ?, ?, ?)

-- name: memoize
INSERT INTO retrysafe_step (
    operation_id, name, idx, seq, kind, status, fence, value, undo, arguments, timeout_seconds, began_at, ended_at
)
SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
FROM retrysafe_checkpoint
WHERE digest = ? AND operation_id = ? AND fence = ? AND $states
ON CONFLICT (operation_id, name, idx) DO UPDATE
SET status = excluded.status, fence = excluded.fence, value = excluded.value, ended_at = excluded.ended_at,
    timeout_seconds = CASE
        WHEN excluded.status = 'intent'
        THEN max(
            retrysafe_step.timeout_seconds,
            excluded.began_at - retrysafe_step.began_at + excluded.timeout_seconds
        )
        ELSE retrysafe_step.timeout_seconds
    END
WHERE retrysafe_step.status = 'intent' AND (excluded.status <> 'intent' OR excluded.fence > retrysafe_step.fence)

-- name: enqueue
INSERT INTO retrysafe_outbox (operation_id, number, message, due_at)
SELECT operation_id, messages, ?, ? FROM retrysafe_checkpoint WHERE digest = ?

-- name: take_messages
UPDATE retrysafe_outbox
SET due_at = ?
WHERE place IN (SELECT place FROM retrysafe_outbox WHERE due_at <= ? ORDER BY place LIMIT ?)
RETURNING place, operation_id, number, message

-- name: dispatch
SELECT $columns FROM retrysafe_checkpoint
WHERE $leased AND lease_until <= ? AND due_at <= ? AND next_hint_at <= ?
    AND (
        mode = 'once'
        OR (
            namespace = ? AND instr(?, ',' || mode || ',') > 0
            AND (state = 'undoing' OR ? = '*' OR instr(?, char(10) || name || char(10)) > 0)
        )
    )
ORDER BY lease_until, number
LIMIT ?

-- name: purge_memos
DELETE FROM retrysafe_step
WHERE operation_id IN (
    SELECT operation_id FROM retrysafe_checkpoint
    WHERE number > ? AND number <= ? AND $before_expired AND outcome_until <= ?
    ORDER BY number LIMIT ?
)

-- name: renew
WITH held (digest, operation_id, fence, lease_until) AS (VALUES $claims)
UPDATE retrysafe_checkpoint AS met
SET lease_until = held.lease_until, due_at = due_at + (held.lease_until - met.lease_until)
FROM held
WHERE met.digest = held.digest AND met.operation_id = held.operation_id AND met.fence = held.fence
    AND $leased
RETURNING digest, lease_until

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

-- name: is_open
number IN (
    SELECT number FROM retrysafe_checkpoint WHERE $leased AND lease_until < 9e999
    UNION ALL
    SELECT number FROM retrysafe_checkpoint WHERE state = 'parked'
)

-- name: operation_begins_with
substr(operation_id, 1, length(?)) = ?

-- name: clock
SELECT clock_high, clock_offset FROM retrysafe_meta

-- name: set_clock
UPDATE retrysafe_meta SET clock_high = max(clock_high, ?), clock_offset = max(clock_offset, ?)
