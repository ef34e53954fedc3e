-- Who waits for which operation of another process, so that its outcome is told to nobody else. It says nothing that must
-- survive a crash.
CREATE UNLOGGED TABLE retrysafe_waiter (
    digest UUID PRIMARY KEY,
    until DOUBLE PRECISION NOT NULL
);

-- The index of open operations names the state, so that an outcome never takes the place of its claim in the same page:
-- room that pages keep for that is wasted, a fifth of the table. Each operation leaves a dead row, and perhaps one beside
-- it; they are swept up before there are many.
ALTER TABLE retrysafe_checkpoint SET (
    fillfactor = 100,
    autovacuum_vacuum_insert_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.05,
    toast.autovacuum_vacuum_scale_factor = 0.02
);
