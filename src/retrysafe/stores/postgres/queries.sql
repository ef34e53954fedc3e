-- Every statement of the PostgreSQL store, by name; the same names and parameters as SQLite's. `?` is rewritten to the
-- driver's placeholder, so no statement has another question mark, nor a per cent sign. Casts stand where a parameter has
-- no column to take its type from. A write proves its right: it compares digest, operation and fence (C4).

-- Rows are chosen by ARRAY(SELECT ... FOR UPDATE SKIP LOCKED): it is evaluated once, where IN (SELECT ...) may be evaluated
-- again for each row and then choose others.

-- name: digest
encode(?::bytea, 'hex')::uuid

-- name: column_digest
uuid_send(digest)

-- name: begin
INSERT INTO retrysafe_checkpoint (
    digest, fence, state, mode, attempt, deaths, lease_until, due_at, created_at, tombstone_until,
    operation_id, attempt_id, name, namespace, principal, key_hint, fingerprint, request, version
)
VALUES ($digest, 1, 'running', ?, 1, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (digest) DO NOTHING

-- name: read
SELECT $columns FROM retrysafe_checkpoint WHERE digest = $digest

-- name: lock
SELECT $columns FROM retrysafe_checkpoint WHERE digest = $digest FOR UPDATE

-- name: claim
($digest, ?::text, ?::integer, ?::double precision)

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

-- name: memoize
INSERT INTO retrysafe_step (
    operation_id, name, idx, seq, kind, status, fence, value, undo, arguments, timeout_seconds, began_at, ended_at
)
SELECT ?::text, ?::text, ?::integer, ?::integer, ?::text, ?::text, ?::integer, ?::bytea, ?::text, ?::bytea,
    ?::double precision, ?::double precision, ?::double precision
FROM retrysafe_checkpoint
WHERE digest = $digest AND operation_id = ? AND fence = ? AND $states
FOR UPDATE
ON CONFLICT (operation_id, name, idx) DO UPDATE
SET status = excluded.status, fence = excluded.fence, value = excluded.value, ended_at = excluded.ended_at,
    timeout_seconds = CASE
        WHEN excluded.status = 'intent'
        THEN greatest(
            retrysafe_step.timeout_seconds,
            excluded.began_at - retrysafe_step.began_at + excluded.timeout_seconds
        )
        ELSE retrysafe_step.timeout_seconds
    END
WHERE retrysafe_step.status = 'intent' AND (excluded.status <> 'intent' OR excluded.fence > retrysafe_step.fence)

-- name: count_message
UPDATE retrysafe_checkpoint SET messages = messages + 1 WHERE digest = $digest AND operation_id = ? AND fence = ?

-- name: enqueue
INSERT INTO retrysafe_outbox (operation_id, number, message, due_at)
SELECT operation_id, messages, ?::bytea, ?::double precision FROM retrysafe_checkpoint WHERE digest = $digest

-- name: take_messages
UPDATE retrysafe_outbox
SET due_at = ?
WHERE place = ANY (ARRAY(
    SELECT place FROM retrysafe_outbox WHERE due_at <= ? ORDER BY place LIMIT ? FOR UPDATE SKIP LOCKED
))
RETURNING place, operation_id, number, message

-- name: sent_message
DELETE FROM retrysafe_outbox WHERE operation_id = ? AND number = ?

-- name: dispatch
SELECT $columns FROM retrysafe_checkpoint
WHERE $leased AND lease_until <= ? AND due_at <= ? AND next_hint_at <= ?
    AND (
        mode = 'once'
        OR (
            namespace = ? AND strpos(?, ',' || mode || ',') > 0
            AND (state = 'undoing' OR ?::text = '*' OR strpos(?, chr(10) || name || chr(10)) > 0)
        )
    )
ORDER BY lease_until, number
LIMIT ?
FOR UPDATE SKIP LOCKED

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

-- name: purge_memos
DELETE FROM retrysafe_step
WHERE operation_id = ANY (ARRAY(
    SELECT operation_id FROM retrysafe_checkpoint
    WHERE number > ? AND number <= ? AND $before_expired AND outcome_until <= ?
    ORDER BY number LIMIT ?
    FOR UPDATE SKIP LOCKED
))

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

-- name: renew
-- Never waits for a row lock: a row that is locked, by a transaction of our own, counts as held while its lease runs (C3).
WITH held (digest, operation_id, fence, lease_until) AS (VALUES $claims),
ours AS (
    SELECT met.digest, met.lease_until
    FROM retrysafe_checkpoint AS met
    JOIN held ON met.digest = held.digest AND met.operation_id = held.operation_id AND met.fence = held.fence
    WHERE $leased
),
free AS MATERIALIZED (
    SELECT digest FROM retrysafe_checkpoint
    WHERE digest IN (SELECT digest FROM ours)
    ORDER BY digest
    FOR UPDATE SKIP LOCKED
),
moved AS (
    UPDATE retrysafe_checkpoint AS met
    SET lease_until = held.lease_until, due_at = due_at + (held.lease_until - met.lease_until)
    FROM held, free
    WHERE met.digest = free.digest AND met.digest = held.digest
        AND met.operation_id = held.operation_id AND met.fence = held.fence AND $leased
    RETURNING met.digest, met.lease_until
)
SELECT uuid_send(digest), lease_until FROM moved
UNION ALL
SELECT uuid_send(digest), lease_until FROM ours WHERE digest NOT IN (SELECT digest FROM free)

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

-- name: purge_due_at
SELECT min(
    CASE
        WHEN $before_expired THEN least(outcome_until, tombstone_until)
        WHEN $purgeable THEN tombstone_until
        ELSE ?::double precision
    END
)
FROM retrysafe_checkpoint
WHERE number > ? AND number <= ?

-- name: purge_tombstones
-- What somebody is just claiming is locked, and is not what it was: without SKIP LOCKED it would be deleted all the same.
DELETE FROM retrysafe_checkpoint
WHERE number = ANY (ARRAY(
    SELECT number FROM retrysafe_checkpoint
    WHERE number > ? AND number <= ? AND $purgeable AND tombstone_until <= ?
    ORDER BY number LIMIT ?
    FOR UPDATE SKIP LOCKED
))

-- name: purge_outcomes
UPDATE retrysafe_checkpoint
SET state = 'expired', outcome = NULL
WHERE number = ANY (ARRAY(
    SELECT number FROM retrysafe_checkpoint
    WHERE number > ? AND number <= ? AND $before_expired AND outcome_until <= ?
    ORDER BY number LIMIT ?
    FOR UPDATE SKIP LOCKED
))

-- name: listing
SELECT $listed FROM retrysafe_checkpoint WHERE $conditions ORDER BY number DESC LIMIT ?

-- name: is_open
number IN (
    SELECT number FROM retrysafe_checkpoint WHERE $leased AND lease_until < 'Infinity'
    UNION ALL
    SELECT number FROM retrysafe_checkpoint WHERE state = 'parked'
)

-- name: is_abandoned
number IN (SELECT number FROM retrysafe_checkpoint WHERE $leased AND lease_until <= ?)

-- name: operation_begins_with
substr(operation_id, 1, length(?::text)) = ?

-- name: is_behind
number < (SELECT number FROM retrysafe_checkpoint WHERE operation_id = ? ORDER BY number DESC LIMIT 1)

-- name: now
SELECT extract(epoch FROM clock_timestamp())::double precision

-- name: meta
SELECT pepper, fingerprint_secret, (SELECT max(number) FROM retrysafe_migration) FROM retrysafe_meta

-- name: make_meta
INSERT INTO retrysafe_meta VALUES (1, ?, ?) ON CONFLICT (only_one) DO NOTHING
