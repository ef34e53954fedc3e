-- One row: what the store was given at its creation (K4).
CREATE TABLE retrysafe_meta (
    only_one INTEGER PRIMARY KEY CHECK (only_one = 1),
    pepper BYTEA NOT NULL CHECK (length(pepper) = 32),
    fingerprint_secret BYTEA NOT NULL CHECK (length(fingerprint_secret) = 32)
);

-- Its key is the 16 bytes of the identity digest: as `uuid` its index is a quarter smaller than as `bytea`. Each page keeps
-- room for the writes that follow a claim, and is cleaned often, because each operation leaves a dead row or two.
CREATE TABLE retrysafe_checkpoint (
    number BIGINT GENERATED ALWAYS AS IDENTITY UNIQUE,
    digest UUID PRIMARY KEY,
    fence INTEGER NOT NULL CHECK (fence >= 1),
    state TEXT NOT NULL CHECK (
        state = 'running' OR state = 'streaming' OR state = 'released' OR state = 'undoing'
        OR state = 'parked' OR state = 'done' OR state = 'undone' OR state = 'expired'
    ),
    mode TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    deaths INTEGER NOT NULL,
    lease_until DOUBLE PRECISION NOT NULL,
    due_at DOUBLE PRECISION NOT NULL,
    created_at DOUBLE PRECISION NOT NULL,
    finished_at DOUBLE PRECISION,
    outcome_until DOUBLE PRECISION,
    tombstone_until DOUBLE PRECISION NOT NULL,
    next_hint_at DOUBLE PRECISION NOT NULL DEFAULT 0,
    version INTEGER NOT NULL DEFAULT 1,
    undoing INTEGER NOT NULL DEFAULT 0,
    messages INTEGER NOT NULL DEFAULT 0,
    operation_id TEXT NOT NULL,
    attempt_id TEXT NOT NULL,
    name TEXT NOT NULL,
    namespace TEXT NOT NULL,
    principal TEXT NOT NULL,
    key_hint TEXT NOT NULL,
    reason TEXT,
    fingerprint BYTEA NOT NULL,
    request BYTEA,
    outcome BYTEA
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);

CREATE INDEX retrysafe_leased ON retrysafe_checkpoint (lease_until)
WHERE state = 'running' OR state = 'streaming' OR state = 'undoing';

CREATE INDEX retrysafe_parked ON retrysafe_checkpoint (number)
WHERE state = 'parked';

-- The memos of steps, found by name and index (R4). A memo that is no intent never changes (I2).
CREATE TABLE retrysafe_step (
    operation_id TEXT NOT NULL,
    name TEXT NOT NULL,
    idx INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind = 'external' OR kind = 'local' OR kind = 'undo' OR kind = 'pivot'),
    status TEXT NOT NULL CHECK (status = 'intent' OR status = 'done' OR status = 'refused'),
    fence INTEGER NOT NULL,
    value BYTEA,
    undo TEXT,
    arguments BYTEA,
    timeout_seconds DOUBLE PRECISION NOT NULL,
    began_at DOUBLE PRECISION NOT NULL,
    ended_at DOUBLE PRECISION,
    PRIMARY KEY (operation_id, name, idx)
);

-- Messages that leave if and only if their operation's commit is durable (R12).
CREATE TABLE retrysafe_outbox (
    place BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    operation_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    message BYTEA NOT NULL,
    due_at DOUBLE PRECISION NOT NULL,
    UNIQUE (operation_id, number)
);

-- Who did what to which operation, and why: only ever longer (R10).
CREATE TABLE retrysafe_audit (
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at DOUBLE PRECISION NOT NULL,
    operation_id TEXT NOT NULL,
    verb TEXT NOT NULL,
    by TEXT NOT NULL,
    note TEXT NOT NULL,
    state_before TEXT NOT NULL,
    state_after TEXT NOT NULL,
    fence_after INTEGER NOT NULL
);

CREATE INDEX retrysafe_audit_of_operation ON retrysafe_audit (operation_id);

-- For the application's own transactions: messages that a consumer has seen (R12), and calls that were undone before
-- they came (R7).
CREATE TABLE retrysafe_inbox (
    consumer TEXT NOT NULL,
    message_id TEXT NOT NULL,
    received_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (consumer, message_id)
);

CREATE TABLE retrysafe_barrier (
    child_key TEXT PRIMARY KEY,
    undone INTEGER NOT NULL,
    at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
);

CREATE FUNCTION retrysafe_refuse() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    RAISE EXCEPTION '%', TG_ARGV[0];
END
$body$;

CREATE FUNCTION retrysafe_forget_steps() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    DELETE FROM retrysafe_step WHERE operation_id = OLD.operation_id;
    RETURN NULL;
END
$body$;

CREATE TRIGGER retrysafe_step_memo_never_changes BEFORE UPDATE ON retrysafe_step
FOR EACH ROW WHEN (OLD.status <> 'intent') EXECUTE FUNCTION retrysafe_refuse('a memo never changes');

CREATE TRIGGER retrysafe_audit_is_append_only BEFORE UPDATE OR DELETE ON retrysafe_audit
FOR EACH ROW EXECUTE FUNCTION retrysafe_refuse('the audit is append-only');

CREATE TRIGGER retrysafe_audit_is_not_emptied BEFORE TRUNCATE ON retrysafe_audit
FOR EACH STATEMENT EXECUTE FUNCTION retrysafe_refuse('the audit is append-only');

CREATE TRIGGER retrysafe_step_goes_with_its_checkpoint AFTER DELETE ON retrysafe_checkpoint
FOR EACH ROW EXECUTE FUNCTION retrysafe_forget_steps();
