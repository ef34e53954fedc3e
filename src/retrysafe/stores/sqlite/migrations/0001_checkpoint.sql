-- One row: what the store was given at its creation (K4), and its clock, shared by all processes of this host (C2).
CREATE TABLE retrysafe_meta (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    pepper BLOB NOT NULL CHECK (length(pepper) = 32),
    fingerprint_secret BLOB NOT NULL CHECK (length(fingerprint_secret) = 32),
    clock_high REAL NOT NULL,
    clock_offset REAL NOT NULL
);

-- Small columns first, so that a scan reads no overflow pages; the digest is not the table's own key, because an
-- outcome beside a random key would dirty a page of its own with each write. `number` is named so that VACUUM keeps
-- it: purges and pages of listings walk by it. Conditions on the state are chains of OR: from three values up SQLite
-- builds a table for each evaluation of IN.
CREATE TABLE retrysafe_checkpoint (
    number INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE CHECK (length(digest) = 16),
    fence INTEGER NOT NULL CHECK (fence >= 1),
    state TEXT NOT NULL CHECK (
        state = 'running' OR state = 'streaming' OR state = 'released' OR state = 'undoing'
        OR state = 'parked' OR state = 'done' OR state = 'undone' OR state = 'expired'
    ),
    mode TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    deaths INTEGER NOT NULL,
    lease_until REAL NOT NULL,
    due_at REAL NOT NULL,
    created_at REAL NOT NULL,
    finished_at REAL,
    outcome_until REAL,
    tombstone_until REAL NOT NULL,
    operation_id TEXT NOT NULL,
    attempt_id TEXT NOT NULL,
    name TEXT NOT NULL,
    namespace TEXT NOT NULL,
    principal TEXT NOT NULL,
    key_hint TEXT NOT NULL,
    reason TEXT,
    fingerprint BLOB NOT NULL,
    request BLOB,
    outcome BLOB
);

-- Only open and parked operations are indexed: few rows, however many are finished.
CREATE INDEX retrysafe_leased ON retrysafe_checkpoint (lease_until)
WHERE state = 'running' OR state = 'streaming' OR state = 'undoing';

CREATE INDEX retrysafe_parked ON retrysafe_checkpoint (state)
WHERE state = 'parked';
