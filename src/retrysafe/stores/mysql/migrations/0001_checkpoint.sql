-- Both servers end a transaction with each change of a table, so that a step which was interrupted is run again: each
-- statement can be. Text is compared by its bytes; the collations that count trailing spaces have a name in each server.

-- One row: what the store was given at its creation (K4).
CREATE TABLE IF NOT EXISTS retrysafe_meta (
    only_one INTEGER PRIMARY KEY CHECK (only_one = 1),
    pepper BINARY(32) NOT NULL,
    fingerprint_secret BINARY(32) NOT NULL
) ENGINE = InnoDB;

-- Rows lie in the order in which they were made: by their random digest, an outcome would dirty a page of its own with
-- each write. Instants are seconds by the server's clock, in no time zone.
CREATE TABLE IF NOT EXISTS retrysafe_checkpoint (
    number BIGINT PRIMARY KEY AUTO_INCREMENT,
    digest BINARY(16) NOT NULL,
    fence INTEGER NOT NULL CHECK (fence >= 1),
    state VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL CHECK (
        state = 'running' OR state = 'streaming' OR state = 'released' OR state = 'undoing'
        OR state = 'parked' OR state = 'done' OR state = 'undone' OR state = 'expired'
    ),
    mode VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    attempt INTEGER NOT NULL,
    deaths INTEGER NOT NULL,
    lease_until DOUBLE NOT NULL,
    due_at DOUBLE NOT NULL,
    created_at DOUBLE NOT NULL,
    finished_at DOUBLE,
    outcome_until DOUBLE,
    tombstone_until DOUBLE NOT NULL,
    next_hint_at DOUBLE NOT NULL DEFAULT 0,
    version INTEGER NOT NULL DEFAULT 1,
    undoing INTEGER NOT NULL DEFAULT 0,
    messages INTEGER NOT NULL DEFAULT 0,
    operation_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    attempt_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    name TEXT CHARACTER SET utf8mb4 COLLATE /*!80000 utf8mb4_0900_bin */ /*M! utf8mb4_nopad_bin */ NOT NULL,
    namespace TEXT CHARACTER SET utf8mb4 COLLATE /*!80000 utf8mb4_0900_bin */ /*M! utf8mb4_nopad_bin */ NOT NULL,
    principal TEXT CHARACTER SET utf8mb4 COLLATE /*!80000 utf8mb4_0900_bin */ /*M! utf8mb4_nopad_bin */ NOT NULL,
    key_hint TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    reason MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    fingerprint BLOB NOT NULL,
    request LONGBLOB,
    outcome LONGBLOB,
    UNIQUE KEY retrysafe_digest (digest),
    KEY retrysafe_state (state, lease_until)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

-- The memos of steps, found by name and index (R4). A memo that is no intent never changes (I2).
CREATE TABLE IF NOT EXISTS retrysafe_step (
    operation_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    name VARCHAR(500) CHARACTER SET utf8mb4 COLLATE /*!80000 utf8mb4_0900_bin */ /*M! utf8mb4_nopad_bin */ NOT NULL,
    idx INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    kind VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL CHECK (
        kind = 'external' OR kind = 'local' OR kind = 'undo' OR kind = 'pivot'
    ),
    status VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL CHECK (
        status = 'intent' OR status = 'done' OR status = 'refused'
    ),
    fence INTEGER NOT NULL,
    value LONGBLOB,
    `undo` TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    arguments LONGBLOB,
    timeout_seconds DOUBLE NOT NULL,
    began_at DOUBLE NOT NULL,
    ended_at DOUBLE,
    PRIMARY KEY (operation_id, name, idx)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

-- Messages that leave if and only if their operation's commit is durable (R12).
CREATE TABLE IF NOT EXISTS retrysafe_outbox (
    place BIGINT PRIMARY KEY AUTO_INCREMENT,
    operation_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    number INTEGER NOT NULL,
    message LONGBLOB NOT NULL,
    due_at DOUBLE NOT NULL,
    UNIQUE KEY retrysafe_message (operation_id, number)
) ENGINE = InnoDB;

-- Who did what to which operation, and why: only ever longer (R10).
CREATE TABLE IF NOT EXISTS retrysafe_audit (
    number BIGINT PRIMARY KEY AUTO_INCREMENT,
    at DOUBLE NOT NULL,
    operation_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    verb VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    `by` TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    note MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    state_before VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    state_after VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    fence_after INTEGER NOT NULL,
    KEY retrysafe_audit_of_operation (operation_id)
) ENGINE = InnoDB;

-- For the application's own transactions: messages that a consumer has seen (R12), and calls that were undone before
-- they came (R7).
CREATE TABLE IF NOT EXISTS retrysafe_inbox (
    consumer VARCHAR(255) CHARACTER SET utf8mb4 COLLATE /*!80000 utf8mb4_0900_bin */ /*M! utf8mb4_nopad_bin */ NOT NULL,
    message_id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE /*!80000 utf8mb4_0900_bin */ /*M! utf8mb4_nopad_bin */ NOT NULL,
    received_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (consumer, message_id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

CREATE TABLE IF NOT EXISTS retrysafe_barrier (
    child_key VARCHAR(255) CHARACTER SET utf8mb4 COLLATE /*!80000 utf8mb4_0900_bin */ /*M! utf8mb4_nopad_bin */ PRIMARY KEY,
    undone INTEGER NOT NULL,
    at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

DROP TRIGGER IF EXISTS retrysafe_step_memo_never_changes;

CREATE TRIGGER retrysafe_step_memo_never_changes BEFORE UPDATE ON retrysafe_step FOR EACH ROW
IF OLD.status <> 'intent' THEN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'a memo never changes';
END IF;

DROP TRIGGER IF EXISTS retrysafe_audit_is_never_changed;

CREATE TRIGGER retrysafe_audit_is_never_changed BEFORE UPDATE ON retrysafe_audit FOR EACH ROW
SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'the audit is append-only';

DROP TRIGGER IF EXISTS retrysafe_audit_is_never_shortened;

CREATE TRIGGER retrysafe_audit_is_never_shortened BEFORE DELETE ON retrysafe_audit FOR EACH ROW
SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'the audit is append-only';

DROP TRIGGER IF EXISTS retrysafe_step_goes_with_its_checkpoint;

CREATE TRIGGER retrysafe_step_goes_with_its_checkpoint AFTER DELETE ON retrysafe_checkpoint FOR EACH ROW
DELETE FROM retrysafe_step WHERE operation_id = OLD.operation_id;
