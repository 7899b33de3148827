-- +goose Up

-- How the last scan of each target went, and when the next one is due. A server
-- holds the row while it scans.
CREATE TABLE target_scans (
    target_id   TEXT   NOT NULL PRIMARY KEY,
    target_name TEXT   NOT NULL,
    node        TEXT   NOT NULL,
    until_at    BIGINT NOT NULL,
    next_at     BIGINT NOT NULL,
    tried_at    BIGINT NOT NULL,
    at          BIGINT NOT NULL,
    problem     TEXT   NOT NULL,
    accounts    BIGINT NOT NULL,
    score       BIGINT NOT NULL,
    settings    TEXT   NOT NULL,
    faults      TEXT   NOT NULL,
    ways        TEXT   NOT NULL,
    way_count   BIGINT NOT NULL,
    drift       TEXT   NOT NULL,
    incomplete  TEXT   NOT NULL,
    version     BIGINT NOT NULL
);
CREATE INDEX target_scans_due ON target_scans (next_at) WHERE next_at <> 0;
CREATE INDEX target_scans_name ON target_scans (target_name);
CREATE INDEX provisions_target ON provisions (target_id) WHERE state <> 'gone';

-- +goose Down
SELECT 1;
