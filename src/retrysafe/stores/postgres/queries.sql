-- What PostgreSQL words by itself, with the same names and parameters as SQLite; the rest of its statements is in
-- `stores/sql/queries.sql`. `?` is rewritten to the driver's placeholder, so no statement has another question mark, nor a
-- per cent sign. Casts stand where a parameter has no column to take its type from.

-- What lies on the way of every request is one statement each, by the server's clock; only a test gives an instant. There is
-- a form for one row, and one for many, whose parameters are arrays. Both answer with rows that begin with what names a
-- row, and whether it was written (`batching.py`).

-- Rows are chosen by ARRAY(SELECT ... FOR UPDATE SKIP LOCKED): it is evaluated once, where IN (SELECT ...) may be evaluated
-- again for each row and then choose others.

-- name: digest
encode(?::bytea, 'hex')::uuid

-- name: column_digest
uuid_send(digest)

-- name: lock
WITH patience AS MATERIALIZED (
    -- Whoever has it locked may keep it so for as long as its transaction lasts; those who wait hold a session each. Rows
    -- are locked last of all, so the lock has this limit, and so has what our transaction waits for afterwards.
    SELECT set_config('lock_timeout', '1000', TRUE)
)
SELECT $columns FROM retrysafe_checkpoint, patience WHERE digest = $digest FOR UPDATE OF retrysafe_checkpoint

-- name: claim
($digest, ?::text, ?::integer, ?::double precision)

-- name: instant
coalesce(its_now, extract(epoch FROM statement_timestamp())::double precision)

-- name: look
SELECT $columns, $instant
FROM retrysafe_checkpoint, (SELECT ?::double precision AS its_now) AS asked
WHERE digest = $digest

-- name: enter
-- What is met is read as of before the insert: who loses to a claim that is committed in this very moment sees nothing.
WITH asked (its_digest, its_attempt_id, its_mode, its_name, its_namespace, its_principal, its_key_hint, its_fingerprint,
    its_request, its_version, its_lease_seconds, its_tombstone_seconds, its_now
) AS ($asked),
made AS (
    INSERT INTO retrysafe_checkpoint (
        digest, fence, state, mode, attempt, deaths, lease_until, due_at, created_at, tombstone_until,
        operation_id, attempt_id, name, namespace, principal, key_hint, fingerprint, request, version
    )
    SELECT encode(its_digest, 'hex')::uuid, 1, 'running', its_mode, 1, 0, $instant + its_lease_seconds,
        $instant + its_lease_seconds, $instant, $instant + its_tombstone_seconds, its_attempt_id,
        its_attempt_id, its_name, its_namespace, its_principal, its_key_hint, its_fingerprint, its_request, its_version
    FROM asked
    -- A conflict waits for a transaction that has the row in hand, and that may be an operation's own (R11).
    WHERE NOT EXISTS (
        SELECT FROM retrysafe_checkpoint AS met WHERE met.digest = encode(its_digest, 'hex')::uuid
    )
    ON CONFLICT (digest) DO NOTHING
    RETURNING digest
)
SELECT uuid_send(digest), TRUE, $nothing, 0::double precision FROM made
UNION ALL
SELECT its_digest, FALSE, $columns, $instant
FROM asked JOIN retrysafe_checkpoint ON digest = encode(its_digest, 'hex')::uuid

-- name: enter_one
SELECT ?::bytea, ?::text, ?::text, ?::text, ?::text, ?::text, ?::text, ?::bytea, ?::bytea, ?::integer,
    ?::double precision, ?::double precision, ?::double precision

-- name: enter_many
SELECT * FROM unnest(
    ?::bytea[], ?::text[], ?::text[], ?::text[], ?::text[], ?::text[], ?::text[], ?::bytea[], ?::bytea[], ?::integer[],
    ?::double precision[], ?::double precision[], ?::double precision[]
)

-- name: finish
UPDATE retrysafe_checkpoint
SET state = 'done', finished_at = $instant, outcome_until = $instant + its_retention_seconds,
    tombstone_until = $instant + its_tombstone_seconds, outcome = its_outcome, request = NULL, reason = NULL
FROM ($asked) AS asked (its_digest, its_operation_id, its_fence, its_retention_seconds, its_tombstone_seconds,
    its_outcome, its_now)
WHERE digest = encode(its_digest, 'hex')::uuid AND operation_id = its_operation_id AND fence = its_fence
    AND $before_done AND undoing = 0
RETURNING its_digest, its_operation_id, its_fence, TRUE, CASE
    WHEN EXISTS (SELECT FROM retrysafe_waiter AS waiter WHERE waiter.digest = retrysafe_checkpoint.digest)
    THEN pg_notify('retrysafe', digest::text)
END

-- name: finish_one
SELECT ?::bytea, ?::text, ?::integer, ?::double precision, ?::double precision, ?::bytea, ?::double precision

-- name: finish_many
SELECT * FROM unnest(
    ?::bytea[], ?::text[], ?::integer[], ?::double precision[], ?::double precision[], ?::bytea[],
    ?::double precision[]
)

-- name: note
-- The checkpoint is locked, so that a take-over and this memo come one after the other (R5, C4).
WITH asked (its_operation_id, its_name, its_index, its_digest, its_fence, its_states, its_seq, its_kind, its_status,
    its_value, its_undo, its_arguments, its_timeout_seconds, its_now
) AS ($asked)
INSERT INTO retrysafe_step (
    operation_id, name, idx, seq, kind, status, fence, value, undo, arguments, timeout_seconds, began_at, ended_at
)
SELECT its_operation_id, its_name, its_index, its_seq, its_kind, its_status, its_fence, its_value, its_undo,
    its_arguments, its_timeout_seconds, $instant, CASE WHEN its_status <> 'intent' THEN $instant END
FROM asked JOIN retrysafe_checkpoint AS met
    ON met.digest = encode(its_digest, 'hex')::uuid AND met.operation_id = its_operation_id AND met.fence = its_fence
WHERE strpos(its_states, ',' || met.state || ',') > 0
FOR UPDATE OF met
$over_intent
RETURNING operation_id, name, idx, TRUE

-- name: note_one
SELECT ?::text, ?::text, ?::integer, ?::bytea, ?::integer, ?::text, ?::integer, ?::text, ?::text, ?::bytea, ?::text,
    ?::bytea, ?::double precision, ?::double precision

-- name: note_many
SELECT * FROM unnest(
    ?::text[], ?::text[], ?::integer[], ?::bytea[], ?::integer[], ?::text[], ?::integer[], ?::text[], ?::text[],
    ?::bytea[], ?::text[], ?::bytea[], ?::double precision[], ?::double precision[]
)

-- name: memoize
INSERT INTO retrysafe_step (
    operation_id, name, idx, seq, kind, status, fence, value, undo, arguments, timeout_seconds, began_at, ended_at
)
SELECT ?::text, ?::text, ?::integer, ?::integer, ?::text, ?::text, ?::integer, ?::bytea, ?::text, ?::bytea,
    ?::double precision, ?::double precision, ?::double precision
FROM retrysafe_checkpoint
WHERE digest = $digest AND operation_id = ? AND fence = ? AND $states
FOR UPDATE
$over_intent

-- name: forget_waiters
DELETE FROM retrysafe_waiter WHERE until < ?

-- name: over_intent
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
WITH held (its_digest, its_operation_id, its_fence, its_lease_until, its_time) AS MATERIALIZED (
    SELECT encode(each.digest, 'hex')::uuid, each.operation_id, each.fence, $instant + each.lease_seconds, $instant
    FROM unnest(?::bytea[], ?::text[], ?::integer[], ?::double precision[])
        AS each (digest, operation_id, fence, lease_seconds),
        (SELECT ?::double precision AS its_now) AS asked
),
ours AS MATERIALIZED (
    SELECT digest, lease_until > its_time AS runs
    FROM held JOIN retrysafe_checkpoint ON digest = its_digest AND operation_id = its_operation_id AND fence = its_fence
    WHERE $leased
),
free AS MATERIALIZED (
    SELECT met.digest
    FROM ours JOIN retrysafe_checkpoint AS met ON met.digest = ours.digest
    ORDER BY met.digest
    FOR UPDATE OF met SKIP LOCKED
),
moved AS (
    UPDATE retrysafe_checkpoint AS met
    SET lease_until = its_lease_until, due_at = due_at + (its_lease_until - met.lease_until)
    FROM free JOIN held ON its_digest = free.digest
    WHERE met.digest = free.digest AND met.operation_id = its_operation_id AND met.fence = its_fence AND $leased
    RETURNING met.digest
)
SELECT uuid_send(digest) FROM moved
UNION ALL
SELECT uuid_send(digest) FROM ours WHERE runs AND digest NOT IN (SELECT digest FROM free)

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
-- A tombstone keeps what refuses a second run, and what people look for; nobody asks any more which attempt it was.
UPDATE retrysafe_checkpoint
SET state = 'expired', outcome = NULL, attempt_id = ''
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
