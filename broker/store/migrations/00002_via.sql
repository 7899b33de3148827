-- +goose Up

-- A target may be reached via others, and others via it.
ALTER TABLE targets ADD COLUMN via TEXT NOT NULL DEFAULT 'null';
ALTER TABLE targets ADD COLUMN hop_account TEXT NOT NULL DEFAULT '';
ALTER TABLE requests ADD COLUMN target_via TEXT NOT NULL DEFAULT 'null';

-- +goose Down
SELECT 1;
