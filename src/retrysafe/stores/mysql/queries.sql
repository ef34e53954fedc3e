-- What MySQL and MariaDB word by themselves; the rest of their statements is in `stores/sql/queries.sql`. `?` is
-- rewritten to the drivers' placeholder, so no statement has another question mark, nor a per cent sign.

-- Transactions are READ COMMITTED: each statement sees what is committed when it begins, and a write what is committed
-- when it has the row. Rows that others may have locked are chosen by a SELECT of its own, which passes by them.

-- `?1` is the first parameter, wherever it stands. `by` and `undo` are words of the language.

-- name: column_undo
`undo`

-- name: begin
-- Refused as a duplicate, which is the answer that another one has it. What is committed is looked for first, without a
-- lock: a duplicate waits for whoever has the row locked, and that may be its own operation's transaction (C1).
INSERT INTO retrysafe_checkpoint (
    digest, fence, state, mode, attempt, deaths, lease_until, due_at, created_at, tombstone_until,
    operation_id, attempt_id, name, namespace, principal, key_hint, fingerprint, request, version
)
SELECT ?1, 1, 'running', ?2, 1, 0, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15
FROM DUAL
WHERE NOT EXISTS (SELECT 1 FROM retrysafe_checkpoint AS met WHERE met.digest = ?1)

-- What lies on the way of every request is one statement each, by the server's clock; only a test gives an instant.

-- name: enter
-- The same, when it need not be known which instant that is.
INSERT INTO retrysafe_checkpoint (
    digest, fence, state, mode, attempt, deaths, lease_until, due_at, created_at, tombstone_until,
    operation_id, attempt_id, name, namespace, principal, key_hint, fingerprint, request, version
)
SELECT $asked
FROM DUAL
WHERE NOT EXISTS (SELECT 1 FROM retrysafe_checkpoint AS met WHERE met.digest = ?1)

-- name: entry
?1, 1, 'running', ?2, 1, 0,
    coalesce(?13, $instant) + ?3, coalesce(?13, $instant) + ?3, coalesce(?13, $instant), coalesce(?13, $instant) + ?4,
    ?5, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12

-- name: enter_all
INSERT INTO retrysafe_checkpoint (
    digest, fence, state, mode, attempt, deaths, lease_until, due_at, created_at, tombstone_until,
    operation_id, attempt_id, name, namespace, principal, key_hint, fingerprint, request, version
)
VALUES

-- name: look
SELECT $columns, coalesce(?, $instant) FROM retrysafe_checkpoint WHERE digest = ?

-- name: look_at_all
SELECT $columns, coalesce(?, $instant) FROM retrysafe_checkpoint WHERE $conditions

-- name: finish
UPDATE retrysafe_checkpoint
SET state = 'done', finished_at = coalesce(?, $instant), outcome_until = coalesce(?, $instant) + ?,
    tombstone_until = coalesce(?, $instant) + ?, outcome = ?, request = NULL, reason = NULL
WHERE digest = ? AND operation_id = ? AND fence = ? AND $before_done AND undoing = 0

-- name: ending
?7 AS its_digest, ?8 AS its_operation_id, ?9 AS its_fence, ?3 AS its_retention_seconds, ?5 AS its_tombstone_seconds,
    ?6 AS its_outcome, ?1 AS its_now

-- name: finish_all
UPDATE retrysafe_checkpoint AS met
JOIN ($rows) AS asked
    ON met.digest = its_digest AND cast(operation_id AS BINARY) = cast(its_operation_id AS BINARY) AND fence = its_fence
SET state = 'done', finished_at = coalesce(its_now, $instant),
    outcome_until = coalesce(its_now, $instant) + its_retention_seconds,
    tombstone_until = coalesce(its_now, $instant) + its_tombstone_seconds,
    outcome = its_outcome, request = NULL, reason = NULL
WHERE $before_done AND undoing = 0

-- name: lock
SELECT $columns FROM retrysafe_checkpoint WHERE digest = ? FOR UPDATE

-- name: lock_free
SELECT digest, operation_id, fence, lease_until FROM retrysafe_checkpoint
WHERE $conditions AND $leased
ORDER BY digest
FOR UPDATE SKIP LOCKED

-- name: look_at_locked
SELECT digest, operation_id, fence, lease_until FROM retrysafe_checkpoint WHERE $conditions AND $leased

-- name: prolong
-- Set from left to right: the second value is the first one's past.
UPDATE retrysafe_checkpoint SET due_at = due_at + (? - lease_until), lease_until = ? WHERE $conditions

-- name: hand_over
UPDATE retrysafe_checkpoint
SET due_at = due_at + (? - lease_until), lease_until = ?
WHERE $conditions AND $leased AND lease_until > ?

-- name: right
(digest = ? AND operation_id = ? AND fence = ?)

-- name: lock_for_memo
SELECT state FROM retrysafe_checkpoint WHERE digest = ? AND operation_id = ? AND fence = ? AND $states FOR UPDATE

-- name: lock_memo
-- Not as of the beginning of a transaction of the application's, which may be REPEATABLE READ.
SELECT $memo_columns FROM retrysafe_step WHERE operation_id = ? AND name = ? AND idx = ? FOR UPDATE

-- name: add_memo
INSERT INTO retrysafe_step (
    operation_id, name, idx, seq, kind, status, fence, value, `undo`, arguments, timeout_seconds, began_at, ended_at
)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: change_memo
UPDATE retrysafe_step
SET timeout_seconds = ?, status = ?, fence = ?, value = ?, ended_at = ?
WHERE operation_id = ? AND name = ? AND idx = ?

-- name: enqueue
INSERT INTO retrysafe_outbox (operation_id, number, message, due_at)
SELECT operation_id, messages, ?, ? FROM retrysafe_checkpoint WHERE digest = ?

-- name: due_messages
SELECT place, operation_id, number, message FROM retrysafe_outbox
WHERE due_at <= ?
ORDER BY place
LIMIT ?
FOR UPDATE SKIP LOCKED

-- name: put_off_messages
UPDATE retrysafe_outbox SET due_at = ? WHERE $conditions

-- name: dispatch
-- Chosen without a lock and then locked, because a sorted list locks all that it sorts.
SELECT $columns FROM retrysafe_checkpoint
JOIN (
    SELECT number AS candidate FROM retrysafe_checkpoint
    WHERE $leased AND lease_until <= ?1 AND due_at <= ?2 AND next_hint_at <= ?3
        AND (
            mode = 'once'
            OR (
                namespace = ?4 AND instr(?5, concat(',', mode, ',')) > 0
                AND (state = 'undoing' OR ?6 = '*' OR instr(?7, concat(char(10), name, char(10))) > 0)
            )
        )
    ORDER BY lease_until, number
    LIMIT ?8
) AS due ON number = candidate
WHERE $leased AND lease_until <= ?1 AND due_at <= ?2 AND next_hint_at <= ?3
ORDER BY lease_until, number
FOR UPDATE SKIP LOCKED

-- name: append_audit
INSERT INTO retrysafe_audit (at, operation_id, verb, `by`, note, state_before, state_after, fence_after)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)

-- name: audit
SELECT number, at, operation_id, verb, `by`, note, state_before, state_after, fence_after
FROM retrysafe_audit ORDER BY number DESC LIMIT ?

-- name: audit_of
SELECT number, at, operation_id, verb, `by`, note, state_before, state_after, fence_after
FROM retrysafe_audit WHERE operation_id = ? ORDER BY number DESC LIMIT ?

-- name: choose_to_purge_memos
SELECT operation_id FROM retrysafe_checkpoint
WHERE number > ? AND number <= ? AND $before_expired AND outcome_until <= ?
ORDER BY number LIMIT ?
FOR UPDATE SKIP LOCKED

-- name: purge_memos
DELETE FROM retrysafe_step WHERE $conditions

-- name: purge_due_at
SELECT min(
    CASE
        WHEN $before_expired THEN least(outcome_until, tombstone_until)
        WHEN $purgeable THEN tombstone_until
        ELSE ?
    END
)
FROM retrysafe_checkpoint
WHERE number > ? AND number <= ?

-- name: choose_to_purge_tombstones
SELECT number FROM retrysafe_checkpoint
WHERE number > ? AND number <= ? AND $purgeable AND tombstone_until <= ?
ORDER BY number LIMIT ?
FOR UPDATE SKIP LOCKED

-- name: purge_tombstones
DELETE FROM retrysafe_checkpoint WHERE $conditions

-- name: choose_to_purge_outcomes
SELECT number FROM retrysafe_checkpoint
WHERE number > ? AND number <= ? AND $before_expired AND outcome_until <= ?
ORDER BY number LIMIT ?
FOR UPDATE SKIP LOCKED

-- name: purge_outcomes
UPDATE retrysafe_checkpoint SET state = 'expired', outcome = NULL WHERE $conditions

-- name: is_open
number IN (
    SELECT number FROM (
        SELECT number FROM retrysafe_checkpoint WHERE $leased
        UNION ALL
        SELECT number FROM retrysafe_checkpoint WHERE state = 'parked'
    ) AS found
)

-- name: operation_begins_with
substr(operation_id, 1, char_length(?)) = ?

-- name: instant
timestampdiff(MICROSECOND, '1970-01-01', utc_timestamp(6)) / 1e6

-- name: now
-- In no time zone: a server's local time has an hour twice each year.
SELECT $instant

-- name: meta
SELECT pepper, fingerprint_secret, (SELECT max(number) FROM retrysafe_migration) FROM retrysafe_meta

-- name: make_meta
INSERT INTO retrysafe_meta VALUES (1, ?, ?)
