-- +goose Up

-- The account as which a target is scanned; empty: the provisioner, or the account that
-- sets the passwords of others.
ALTER TABLE targets ADD COLUMN scan_account TEXT NOT NULL DEFAULT '';

-- +goose Down
SELECT 1;
