-- +goose Up

-- Accounts that scans have found on targets. A risk of 1 is the gravest.
CREATE TABLE found_accounts (
    id          TEXT   NOT NULL PRIMARY KEY,
    target_id   TEXT   NOT NULL,
    target_name TEXT   NOT NULL,
    name        TEXT   NOT NULL,
    class       TEXT   NOT NULL CHECK (class IN ('managed', 'emergency', 'orphaned', 'dormant', 'shared', 'service', 'unmanaged')),
    risk        BIGINT NOT NULL CHECK (risk BETWEEN 1 AND 4),
    owner_id    TEXT   NOT NULL,
    owner_name  TEXT   NOT NULL,
    declared    TEXT   NOT NULL CHECK (declared IN ('', 'service', 'shared', 'emergency')),
    note        TEXT   NOT NULL,
    reasons     TEXT   NOT NULL,
    detail      TEXT   NOT NULL,
    first_seen  BIGINT NOT NULL,
    last_seen   BIGINT NOT NULL,
    gone_at     BIGINT NOT NULL, -- 0: it is there
    version     BIGINT NOT NULL
);
CREATE UNIQUE INDEX found_accounts_name ON found_accounts (target_id, name);
CREATE INDEX found_accounts_risk ON found_accounts (risk, target_name, name) WHERE gone_at = 0;
CREATE INDEX found_accounts_class ON found_accounts (class, risk, target_name, name) WHERE gone_at = 0;
CREATE INDEX found_accounts_owner ON found_accounts (owner_name, risk, target_name, name) WHERE gone_at = 0;
CREATE INDEX found_accounts_gone ON found_accounts (target_id, gone_at) WHERE gone_at <> 0;

-- +goose Down
SELECT 1;
