-- +goose Up

-- Passwords and keys with which the bastion logs in at targets, sealed.
CREATE TABLE account_secrets (
    id         TEXT   NOT NULL PRIMARY KEY,
    target_id  TEXT   NOT NULL,
    account    TEXT   NOT NULL,
    sealed     BYTEA  NOT NULL,
    changed_at BIGINT NOT NULL,
    version    BIGINT NOT NULL
);
CREATE INDEX account_secrets_target ON account_secrets (target_id);

-- +goose Down
SELECT 1;
