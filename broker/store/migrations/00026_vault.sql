-- +goose Up

-- Which versions of the vault's data key each server may still need. A version is
-- destroyed when no server does.
CREATE TABLE vault_servers (
    node    TEXT   NOT NULL PRIMARY KEY,
    oldest  BIGINT NOT NULL, -- version with which something that only this server has is sealed, or will be
    newest  BIGINT NOT NULL, -- version with which it seals
    seen_at BIGINT NOT NULL
);

-- +goose Down
SELECT 1;
