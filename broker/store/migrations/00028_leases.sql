-- +goose Up

-- Secrets that were shown to people. Rows stay: they say who has seen what.
CREATE TABLE leases (
    id          TEXT    NOT NULL PRIMARY KEY,
    grant_id    TEXT    NOT NULL,
    request_id  TEXT    NOT NULL,
    user_id     TEXT    NOT NULL,
    user_name   TEXT    NOT NULL,
    target_id   TEXT    NOT NULL,
    target_name TEXT    NOT NULL,
    account     TEXT    NOT NULL,
    credential  TEXT    NOT NULL CHECK (credential IN ('password', 'key')),
    secret      BIGINT  NOT NULL,
    managed     BOOLEAN NOT NULL,
    reason      TEXT    NOT NULL,
    source      TEXT    NOT NULL,
    via         TEXT    NOT NULL,
    at          BIGINT  NOT NULL,
    until_at    BIGINT  NOT NULL,
    ended_at    BIGINT  NOT NULL, -- 0: nobody and nothing has ended it
    end_reason  TEXT    NOT NULL,
    ended_by    TEXT    NOT NULL,
    version     BIGINT  NOT NULL
);
CREATE INDEX leases_at ON leases (at, id);
CREATE INDEX leases_user ON leases (user_id, at, id);
CREATE INDEX leases_account ON leases (target_id, account, at);
CREATE INDEX leases_open ON leases (at, id) WHERE ended_at = 0;
CREATE UNIQUE INDEX leases_grant ON leases (grant_id) WHERE ended_at = 0;

-- +goose Down
SELECT 1;
