-- +goose Up

-- Accounts on targets that exist only while a grant does.
ALTER TABLE targets ADD COLUMN provisioner TEXT NOT NULL DEFAULT '';
ALTER TABLE targets ADD COLUMN principals_folder TEXT NOT NULL DEFAULT '';
ALTER TABLE requests ADD COLUMN made TEXT NOT NULL DEFAULT 'null';

CREATE TABLE provisions (
    id          TEXT   NOT NULL PRIMARY KEY,
    grant_id    TEXT   NOT NULL UNIQUE REFERENCES grants (id),
    request_id  TEXT   NOT NULL,
    user_id     TEXT   NOT NULL,
    user_name   TEXT   NOT NULL,
    target_id   TEXT   NOT NULL,
    target_name TEXT   NOT NULL,
    account     TEXT   NOT NULL,
    login       TEXT   NOT NULL,
    machine     TEXT   NOT NULL,
    template    TEXT   NOT NULL,
    state       TEXT   NOT NULL CHECK (state IN ('planned', 'creating', 'present', 'removing', 'gone', 'failed')),
    planned_at  BIGINT NOT NULL,
    created_at  BIGINT NOT NULL,
    gone_at     BIGINT NOT NULL,
    tries       BIGINT NOT NULL,
    since_at    BIGINT NOT NULL,
    problem     TEXT   NOT NULL,
    next_at     BIGINT NOT NULL,
    node        TEXT   NOT NULL,
    until_at    BIGINT NOT NULL,
    version     BIGINT NOT NULL
);
-- One holder of a login on a target, whatever the code thinks.
CREATE UNIQUE INDEX provisions_login ON provisions (target_id, login) WHERE state NOT IN ('planned', 'gone');
-- What is not gone is looked at every second.
CREATE INDEX provisions_left ON provisions (next_at) WHERE state <> 'gone';

-- +goose Down
SELECT 1;
