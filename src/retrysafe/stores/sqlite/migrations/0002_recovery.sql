-- Recovery: what an operation's code is, whether it is being undone, and until when somebody was told about it (R2).
ALTER TABLE retrysafe_checkpoint ADD COLUMN version INTEGER NOT NULL DEFAULT 1;

ALTER TABLE retrysafe_checkpoint ADD COLUMN undoing INTEGER NOT NULL DEFAULT 0;

ALTER TABLE retrysafe_checkpoint ADD COLUMN next_hint_at REAL NOT NULL DEFAULT 0;

-- How many messages the operation has sent in all; the outbox forgets those that have left.
ALTER TABLE retrysafe_checkpoint ADD COLUMN messages INTEGER NOT NULL DEFAULT 0;

-- The memos of steps, found by name and index (R4). A memo that is no intent never changes (I2).
CREATE TABLE retrysafe_step (
    operation_id TEXT NOT NULL,
    name TEXT NOT NULL,
    idx INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind = 'external' OR kind = 'local' OR kind = 'undo' OR kind = 'pivot'),
    status TEXT NOT NULL CHECK (status = 'intent' OR status = 'done' OR status = 'refused'),
    fence INTEGER NOT NULL,
    value BLOB,
    undo TEXT,
    arguments BLOB,
    timeout_seconds REAL NOT NULL,
    began_at REAL NOT NULL,
    ended_at REAL,
    PRIMARY KEY (operation_id, name, idx)
) WITHOUT ROWID;

CREATE TRIGGER retrysafe_step_memo_never_changes BEFORE UPDATE ON retrysafe_step
WHEN OLD.status <> 'intent'
BEGIN
    SELECT raise(ABORT, 'a memo never changes');
END;

CREATE TRIGGER retrysafe_step_goes_with_its_checkpoint AFTER DELETE ON retrysafe_checkpoint
BEGIN
    DELETE FROM retrysafe_step WHERE operation_id = OLD.operation_id;
END;

-- Messages that leave if and only if their operation's commit is durable (R12).
CREATE TABLE retrysafe_outbox (
    place INTEGER PRIMARY KEY,
    operation_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    message BLOB NOT NULL,
    due_at REAL NOT NULL,
    UNIQUE (operation_id, number)
);

-- Who did what to which operation, and why: only ever longer (R10).
CREATE TABLE retrysafe_audit (
    number INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    operation_id TEXT NOT NULL,
    verb TEXT NOT NULL,
    by TEXT NOT NULL,
    note TEXT NOT NULL,
    state_before TEXT NOT NULL,
    state_after TEXT NOT NULL,
    fence_after INTEGER NOT NULL
);

CREATE INDEX retrysafe_audit_of_operation ON retrysafe_audit (operation_id);

CREATE TRIGGER retrysafe_audit_is_never_changed BEFORE UPDATE ON retrysafe_audit
BEGIN
    SELECT raise(ABORT, 'the audit is append-only');
END;

CREATE TRIGGER retrysafe_audit_is_never_shortened BEFORE DELETE ON retrysafe_audit
BEGIN
    SELECT raise(ABORT, 'the audit is append-only');
END;

-- For the application's own transactions: messages that a consumer has seen (R12), and calls that were undone before
-- they came (R7).
CREATE TABLE retrysafe_inbox (
    consumer TEXT NOT NULL,
    message_id TEXT NOT NULL,
    received_at REAL NOT NULL DEFAULT ((julianday('now') - 2440587.5) * 86400.0),
    PRIMARY KEY (consumer, message_id)
) WITHOUT ROWID;

CREATE TABLE retrysafe_barrier (
    child_key TEXT PRIMARY KEY,
    undone INTEGER NOT NULL,
    at REAL NOT NULL DEFAULT ((julianday('now') - 2440587.5) * 86400.0)
) WITHOUT ROWID;
