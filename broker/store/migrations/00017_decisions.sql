-- +goose Up

-- What the policy was asked and answered, of the events that came of it, so that it
-- can be asked again. The event has the hash of the input.
CREATE TABLE decisions (
    seq     BIGINT NOT NULL PRIMARY KEY, -- of the event
    at      BIGINT NOT NULL,
    id      TEXT   NOT NULL,
    action  TEXT   NOT NULL,
    input   TEXT   NOT NULL, -- JSON, byte for byte what was hashed
    answer  TEXT   NOT NULL  -- JSON
);

-- The policy bundle by which each server decides.
CREATE TABLE policy_servers (
    node        TEXT   NOT NULL PRIMARY KEY,
    digest      TEXT   NOT NULL, -- of what decides; stands in each decision
    content     TEXT   NOT NULL, -- digest of all files, tests included; '' for the one in the program
    revision    TEXT   NOT NULL, -- commit of the git checkout
    signer      TEXT   NOT NULL,
    source      TEXT   NOT NULL,
    loaded_at   BIGINT NOT NULL,
    seen_at     BIGINT NOT NULL, -- when the server last said so
    refused     TEXT   NOT NULL, -- why the bundle that is there now is not in force; '' when it is
    refused_at  BIGINT NOT NULL
);

-- +goose Down
SELECT 1;
