-- What PostgreSQL words by itself, with the same names and parameters as SQLite; the rest of its statements is in
-- `stores/sql/queries.sql`. `?` is rewritten to the driver's placeholder, so no statement has another question mark, nor a
-- per cent sign. Casts stand where a parameter has no column to take its type from.

-- Rows are chosen by ARRAY(SELECT ... FOR UPDATE SKIP LOCKED): it is evaluated once, where IN (SELECT ...) may be evaluated
-- again for each row and then choose others.

-- name: digest
encode(?::bytea, 'hex')::uuid

-- name: column_digest
uuid_send(digest)

-- name: lock
SELECT $columns FROM retrysafe_checkpoint WHERE digest = $digest FOR UPDATE

-- name: claim
($digest, ?::text, ?::integer, ?::double precision)

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

-- name: purge_memos
DELETE FROM retrysafe_step
WHERE operation_id = ANY (ARRAY(
    SELECT operation_id FROM retrysafe_checkpoint
    WHERE number > ? AND number <= ? AND $before_expired AND outcome_until <= ?
    ORDER BY number LIMIT ?
    FOR UPDATE SKIP LOCKED
))

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

-- name: is_open
number IN (
    SELECT number FROM retrysafe_checkpoint WHERE $leased AND lease_until < 'Infinity'
    UNION ALL
    SELECT number FROM retrysafe_checkpoint WHERE state = 'parked'
)

-- name: operation_begins_with
substr(operation_id, 1, length(?::text)) = ?

-- name: now
SELECT extract(epoch FROM clock_timestamp())::double precision

-- name: meta
SELECT pepper, fingerprint_secret, (SELECT max(number) FROM retrysafe_migration) FROM retrysafe_meta

-- name: make_meta
INSERT INTO retrysafe_meta VALUES (1, ?, ?) ON CONFLICT (only_one) DO NOTHING
