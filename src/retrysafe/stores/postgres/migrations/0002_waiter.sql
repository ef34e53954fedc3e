-- Who waits for which operation of another process, so that its outcome is told to nobody else. It says nothing that must
-- survive a crash.
CREATE UNLOGGED TABLE retrysafe_waiter (
    digest UUID PRIMARY KEY,
    until DOUBLE PRECISION NOT NULL
);

-- Each operation leaves a dead row, and what was stored beside it; both are swept up before there are many.
ALTER TABLE retrysafe_checkpoint SET (
    autovacuum_vacuum_insert_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.05,
    toast.autovacuum_vacuum_scale_factor = 0.02
);
